"""The configurations that are shipped, held to what their commands take; no data is looked for."""

import re
from pathlib import Path
from typing import Any

import pytest
from eomt_ext_training import measure
from eomt_ext_training.head import cli
from eomt_ext_training.network import cli as network_cli
from jsonargparse import capture_parser

TRAINING = Path(__file__).parents[3] / "training"
CONFIGS = TRAINING / "configs"


@pytest.fixture
def parse_fit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What ``eomt-ext-train fit`` makes of its arguments, before anything is built."""
    monkeypatch.setattr("sys.argv", ["eomt-ext-train"])
    monkeypatch.setattr(cli.HeadTrainingCLI, "instantiate_classes", lambda self: None)
    monkeypatch.setattr(cli.HeadTrainingCLI, "_run_subcommand", lambda self, subcommand: None)

    def parse(name: str, *options: str) -> Any:
        return cli.run(["fit", "-c", str(CONFIGS / name), *options]).config.fit

    return parse


def class_names(parts: list[Any]) -> list[str]:
    return [part.class_path.rpartition(".")[2] for part in parts]


def test_the_reference_configuration_takes_a_checkpoint(parse_fit: Any) -> None:
    config = parse_fit("eomt_base_640_ext.yaml", "--model.checkpoint", "network.safetensors", "--model.lr", "3e-4")
    assert (config.model.checkpoint, config.model.lr, config.model.pos_weight) == ("network.safetensors", 3e-4, 10.0)
    assert (class_names(config.data.train), class_names(config.data.val)) == (["Augmented"], ["ProceduralScenes"])
    with pytest.raises(SystemExit):
        parse_fit("eomt_base_640_ext.yaml")  # without one
    with pytest.raises(SystemExit):
        parse_fit("eomt_base_640_ext.yaml", "--model.checkpoint", "network.safetensors", "--model.no_such", "1")


def test_the_head_of_camvid(parse_fit: Any) -> None:
    config = parse_fit("camvid_head.yaml")
    assert class_names([*config.data.train, *config.data.val]) == ["PastedAnomalies"] * 2
    seen = config.data.train[0].init_args.source.init_args
    assert seen == config.data.val[0].init_args.source.init_args

    unseen = parse(measure.run, "camvid_measure.yaml", "--checkpoint", "x").pasted.init_args.source.init_args
    assert not set(seen.families) & set(unseen.families)
    assert not set(seen.textures) & set(unseen.textures)


def parse(command: Any, name: str, *options: str) -> Any:
    return capture_parser(command).parse_args(["--config", str(CONFIGS / name), *options])


def test_the_network_of_camvid(parse_fit: Any) -> None:
    config = parse(network_cli.run, "camvid_network.yaml")
    assert config.model.num_queries == config.model.num_classes == len(config.class_names) == 11
    assert config.data.class_path.endswith("SemanticViews")
    assert [stage.steps for stage in config.stages] == [800, 150]
    assert str(config.output) == parse_fit("camvid_head.yaml").model.checkpoint


def test_the_measurement_of_camvid_names_the_run(parse_fit: Any) -> None:
    head = parse_fit("camvid_head.yaml")
    run = f"{head.trainer.default_root_dir}/{head.run_name}/version_0/model.safetensors"
    assert f"--checkpoint {run}\n" in (CONFIGS / "camvid_measure.yaml").read_text()
    config = parse(measure.run, "camvid_measure.yaml", "--checkpoint", run)
    assert config.checkpoint == run
    assert config.clear.init_args.pasting.probability == 0.0


def test_configurations_that_are_named_are_there() -> None:
    for page in (TRAINING / "README.md", *CONFIGS.glob("*.yaml")):
        named = re.findall(r"(?:--config|-c) (\S+\.yaml)", page.read_text())
        assert named, page
        for path in named:
            assert (TRAINING.parent / path).is_file(), f"{page.name} names {path}"
