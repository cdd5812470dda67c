"""Train one step on eight images, in one process and in two, and write the head's gradients to 1.pt and 2.pt.

Then train two processes on nothing but void, and write to ``void`` whether the head is unchanged. Then validate on nine
images, whose frozen outputs go to the folders ``cache1`` and ``cache2``, and write what is logged to val1.json and
val2.json.

    python two_processes.py NETWORK FOLDER
"""

import json
import sys
from pathlib import Path

import torch
from eomt_ext_training.data.anomaly_data import AnomalyData
from eomt_ext_training.data.sample import VOID, Sample
from eomt_ext_training.head.feature_cache import CacheSettings
from eomt_ext_training.head.losses import count_valid
from eomt_ext_training.head.module import HeadModule
from lightning.pytorch import Callback, Trainer, seed_everything
from torch.utils.data import Dataset

from eomt_ext_core import HeadConfig


class Images(Dataset[Sample]):
    """Images, each with another share of void, from the eighth on nothing else; or all of them."""

    def __init__(self, count: int = 8, void: bool = False) -> None:
        self.count, self.void = count, void

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(256, (3, 64, 96), generator=generator, dtype=torch.uint8)
        labels = torch.randint(2, (64, 96), generator=generator, dtype=torch.uint8)
        labels[: 64 if self.void or index >= 7 else index**2] = VOID
        return Sample(image, labels, str(index))

    def fingerprint(self) -> str:
        return f"{self.count} {self.void}"


class UncheckedData(AnomalyData):
    """Data of nothing but void, which as a whole are refused: a batch of it is met in any data."""

    def _check_kinds(self, names) -> None:
        pass


class Watch(Callback):
    """Writes the gradient of the first step, and whether the head changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.num_valid = 0.0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.num_valid = float(count_valid(batch.labels))
        self.before = [parameter.detach().clone() for parameter in pl_module.head.parameters()]

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if trainer.is_global_zero and self.num_valid:
            gradients = [parameter.grad.clone() for parameter in pl_module.head.parameters()]
            torch.save({"gradients": gradients, "num_valid": self.num_valid}, self.folder / f"{trainer.world_size}.pt")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.is_global_zero and not self.num_valid:
            same = all(p.equal(old) for p, old in zip(pl_module.head.parameters(), self.before, strict=True))
            (self.folder / "void").write_text("unchanged" if same and batch_idx == 1 else "changed")


def make(network: str, processes: int, **options) -> tuple[Trainer, HeadModule]:
    seed_everything(0)
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp_fork" if processes > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    return trainer, HeadModule(network, None, HeadConfig(hidden_dim=16, dropout=0.0))


def train(network: str, folder: Path, processes: int, data: AnomalyData) -> None:
    trainer, module = make(network, processes, max_epochs=1, limit_val_batches=0, callbacks=[Watch(folder)])
    trainer.fit(module, data)


def validate(network: str, folder: Path, processes: int) -> None:
    cache = CacheSettings(folder / f"cache{processes}", batch_size=1, bf16=False)
    trainer, module = make(network, processes)
    (logged,) = trainer.validate(module, AnomalyData([Images()], [Images(count=9)], batch_size=2, cache=cache))
    (folder / f"val{processes}.json").write_text(json.dumps(logged))


if __name__ == "__main__":
    torch.set_num_threads(1)
    network, folder = sys.argv[1], Path(sys.argv[2])
    for processes in (1, 2):
        train(network, folder, processes, AnomalyData([Images()], [Images()], batch_size=8 // processes))
        validate(network, folder, processes)
    train(network, folder, 2, UncheckedData([Images(void=True)], [Images()], batch_size=2))
