"""Faults that the node survives, with what its operator sees."""

import pytest

pytest.importorskip("rclpy")
import torch
from diagnostic_msgs.msg import DiagnosticStatus

from eomt_ext_core import InferenceError
from eomt_ext_ros import inference as inference_module

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def values(status):
    return {item.key: item.value for item in status.values}


def test_out_of_memory_once_is_answered_with_half_the_batch(stand_in, image_msg):
    rig = stand_in(batch_windows=2)
    rig.start("probability")
    rig.engine.failures = [OUT_OF_MEMORY]
    assert rig.answer(image_msg(1)).header == image_msg(1).header
    assert (rig.engine.freed, rig.engine.config.batch_windows) == (1, 1)
    status = rig.diagnostics()["inference"]
    assert status.level == OK
    assert values(status)["batch_windows"] == "1 instead of 2, as memory is short"


def test_out_of_memory_is_an_error_that_ends_by_itself(stand_in, image_msg, monkeypatch, capfd):
    monkeypatch.setattr(inference_module, "RETRY_PERIOD_S", 0.2)
    rig = stand_in()
    rig.start("probability")
    rig.engine.failures = [OUT_OF_MEMORY] * 4
    rig.send(rig.stamped(image_msg(1)))
    rig.spin_until_counted("failed/memory")
    statuses = rig.diagnostics()
    assert statuses["inference"].level == statuses["camera"].level == ERROR
    assert "CUDA out of memory" in statuses["inference"].message
    assert values(statuses["camera"])["failed/memory"] == "1"
    rig.send(rig.stamped(image_msg(2)))
    rig.spin_until_counted("failed/memory", 2)
    last = rig.stamped(image_msg(3))
    assert rig.answer(last).header == last.header
    assert len(rig.messages("probability")) == 1
    assert {status.level for status in rig.diagnostics().values()} == {OK}
    assert "out of memory: CUDA out of memory" in capfd.readouterr().err


@pytest.mark.parametrize("error", [InferenceError("the network's result must be finite"), KeyError("layer 7")])
def test_a_failing_inference_is_an_error_until_the_next_answer(stand_in, image_msg, error):
    rig = stand_in()
    rig.start("probability")
    rig.engine.failures = [error]
    rig.send(rig.stamped(image_msg(1)))
    rig.spin_until_counted("failed/inference")
    statuses = rig.diagnostics()
    assert statuses["inference"].level == statuses["camera"].level == ERROR
    assert str(error) in statuses["inference"].message
    assert str(error) in statuses["camera"].message
    assert rig.node.inference.error.__traceback__ is None, "frames hold images"
    rig.answer(rig.stamped(image_msg(2)))
    assert {status.level for status in rig.diagnostics().values()} == {OK}
    assert len(rig.messages("probability")) == 1


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "empty"])
def test_a_checkpoint_that_cannot_be_used_leaves_the_node_unconfigured_with_the_reason(
    make_rig, tiny_model, tmp_path, damage, capfd
):
    from safetensors.torch import save_file

    path, data = tmp_path / "model.safetensors", tiny_model.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "foreign":
        save_file({"conv1.weight": torch.zeros(3, 3)}, path)
    elif damage == "empty":
        path.write_bytes(b"")
    rig = make_rig(checkpoint=str(path))
    assert not rig.change_state("configure")
    assert rig.state == "unconfigured"
    status = rig.diagnostics()["inference"]
    assert status.level == ERROR
    assert status.message.startswith(f"not configured: {path}")
    err = capfd.readouterr().err
    assert f"configure failed: {path}" in err
    assert "Traceback" not in err
    assert rig.set(checkpoint=str(tiny_model)) == ""
    assert rig.change_state("configure")
    assert rig.change_state("activate")
    assert rig.diagnostics()["inference"].level == OK


def test_without_a_gpu_require_cuda_leaves_the_node_unconfigured(make_rig, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rig = make_rig(require_cuda=True, device="auto")
    assert not rig.change_state("configure")
    assert "require_cuda needs a GPU" in rig.diagnostics()["inference"].message
