"""Change of the metadata in an exported ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eomt_ext_core.files import atomic_write
from eomt_ext_core.runtimes.contents import ExportContents
from eomt_ext_core.runtimes.extra import require


def rewrite_info(source: Path, info: Mapping[str, Any], target: Path) -> None:
    """Copy an exported file with other metadata of the checkpoint, such as another calibration.

    Args:
        source: a file that a scorer has opened, so that it is known to be an export.
        info: in the place of its own.
        target: the copy; it may be ``source``.

    Raises:
        CheckpointError: if ``info`` is not what an export may hold.
        ConfigError: if onnx is not installed.
    """
    onnx = require("onnx", "export")
    model = onnx.load(str(source), load_external_data=False)
    contents = ExportContents.of({item.key: item.value for item in model.metadata_props})
    onnx.helper.set_model_props(model, replace(contents, info=info).to_metadata())
    with atomic_write(target) as temporary:
        temporary.write_bytes(model.SerializeToString())
