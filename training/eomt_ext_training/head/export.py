"""Export of a training run: the whole model, and the head alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from eomt_ext_core.about.record import make_record, with_record
from eomt_ext_core.engine.probing import make_probe
from eomt_ext_core.files import save_tensors
from eomt_ext_core.model.checkpoint import save_model
from eomt_ext_core.model.eomt_ext import EoMTExt
from eomt_ext_core.scoring.probe import PROBE
from eomt_ext_training.head.module import HeadModule, head_state


class BestCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that keeps track of the best epoch when a resumed run writes to another folder.

    The checkpoints of the earlier run are not moved. If a user has moved them, they are looked for beside the one
    that is resumed from.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Correct the path of the best checkpoint before it is loaded."""
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if state and trainer.ckpt_path is not None:
            # the same result in all processes, even if their disks differ: together they choose the best
            state.update(trainer.strategy.broadcast(_relocated(state, Path(trainer.ckpt_path).parent)))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the best checkpoints so far."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})


def _relocated(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return changes of a ModelCheckpoint's state, so that its best checkpoint exists, or is none."""

    def beside(path: str) -> str:
        return str(folder / Path(path).name) if path else ""

    best = state["best_model_path"]
    if not best or Path(best).is_file():
        return {}
    if Path(beside(best)).is_file():
        return {
            "best_model_path": beside(best),
            "best_k_models": {beside(path): score for path, score in state["best_k_models"].items()},
            "kth_best_model_path": beside(state["kth_best_model_path"]),
        }
    rank_zero_warn(
        f"the best checkpoint so far, {best}, is neither there nor in {folder}: starting without a best checkpoint"
    )
    return {"best_model_path": "", "best_model_score": None, "best_k_models": {}, "kth_best_model_path": ""}


class ExportBest(Callback):
    """Write ``model.safetensors`` and ``head.safetensors`` of the best checkpoint into the folder of the run."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write both files, once."""
        keeper = trainer.checkpoint_callback
        if not (trainer.is_global_zero and isinstance(keeper, ModelCheckpoint) and keeper.best_model_path):
            return
        assert isinstance(pl_module, HeadModule), "it is the module that this callback belongs to"
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        score = None if keeper.best_model_score is None else round(float(keeper.best_model_score), 4)
        model = EoMTExt(pl_module.model.config, pl_module.head.config)
        model.network.load_state_dict(pl_module.model.network.state_dict())
        assert model.anomaly_head is not None, "it was given one"
        model.anomaly_head.load_state_dict(head_state(keeper.best_model_path))
        model.info = {name: value for name, value in pl_module.model.info.items() if name != PROBE} | {
            "training": {
                "best_checkpoint": Path(keeper.best_model_path).name,
                str(keeper.monitor): score,
                "steps": trainer.global_step,
                "lr": pl_module.lr,
                "pos_weight": pl_module.pos_weight,
                "pixels_per_crop": pl_module.pixels_per_crop,
                "seed": pl_module.seed,
            }
        }
        facts = {
            "device": str(pl_module.device),
            "precision": str(trainer.precision),
            "seeds": {"seed": pl_module.seed},
        }
        model.info = with_record(model.info, make_record(**facts))
        save_model(model.eval(), folder / "model.safetensors", make_probe(model))
        save_head(model, folder / "head.safetensors")
        rank_zero_info(f"wrote model.safetensors and head.safetensors to {folder} ({keeper.monitor} {score})")


def save_head(model: EoMTExt, path: str | Path) -> None:
    """Write the head alone, under the names of the reference's checkpoints, ``anomaly_head.*``."""
    assert model.anomaly_head is not None, "there is a head to save"
    save_tensors(path, {f"anomaly_head.{key}": value for key, value in model.anomaly_head.state_dict().items()})
