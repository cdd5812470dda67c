"""What ``eomt-ext doctor`` finds, and how it ends."""

import json
from collections.abc import Iterator

import pytest
import torch
from typer.testing import CliRunner

from eomt_ext_core.about import checks
from eomt_ext_core.about.checks import Check, all_checks, extra_check, own_checks
from eomt_ext_core.cli import app


class Entry:
    def __init__(self, name: str, *found: Check, error: Exception | None = None) -> None:
        self.name, self.found, self.error = name, found, error

    def load(self) -> object:
        def give() -> Iterator[Check]:
            if self.error:
                raise self.error
            yield from self.found

        return give


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> object:
    """Let the machine have nothing but what is given."""

    def use(*entries: Entry) -> None:
        monkeypatch.setattr(checks, "own_checks", lambda: iter(()))
        monkeypatch.setattr(checks, "entry_points", lambda group: entries if group == "eomt_ext.checks" else ())

    return use


def test_this_machine_has_what_the_tests_need() -> None:
    found = {check.name: check for check in own_checks()}
    assert (found["Python"].level, found["torch"].level, found["timm"].level) == ("good", "good", "good")
    assert found["torch"].found == torch.__version__.split("+")[0] or found["torch"].found == torch.__version__
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    assert f"torch on {device}" in found["auto takes"].found


def test_a_machine_without_gpu_is_told_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # no nvidia-smi
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = {check.name: check for check in own_checks()}
    assert (found["GPU"].level, found["GPU"].found) == ("missing", "no NVIDIA driver")
    assert found["auto takes"].found.startswith("torch on cpu")


def test_an_extra_is_named_with_the_command_that_installs_it() -> None:
    check = extra_check("bags", ("nowhere_to_be_found",), "reads recordings", "bags")
    assert (check.level, check.found) == ("missing", "no nowhere_to_be_found")
    assert check.way_out == "pip install 'eomt_ext_ros[bags]': reads recordings"


def test_a_check_that_fails_is_an_error_of_its_own(only: object) -> None:
    only(Entry("ros", error=OSError("broken")), Entry("other", Check("x", "good", "1")))  # type: ignore[operator]
    assert list(all_checks()) == [Check("ros", "error", "OSError: broken", "reinstall it"), Check("x", "good", "1")]


@pytest.mark.parametrize(("levels", "status"), [(["good"], 0), (["good", "missing"], 3), (["missing", "error"], 1)])
def test_the_exit_status_tells_what_is_missing(only: object, levels: list[str], status: int) -> None:
    only(Entry("some", *(Check(level, level, "found", "do that") for level in levels)))  # type: ignore[operator,arg-type]
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == status
    assert [check["level"] for check in json.loads(done.stdout)] == levels
    assert "-> do that" in CliRunner().invoke(app, ["doctor"]).stdout
