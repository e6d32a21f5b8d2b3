"""RecTools' SASRec as shipped: its own preparation, Lightning loop and softmax loss. Runs in its own environment.

For quality alone, ``loss: chunked`` computes the same loss (but for rounding) without the positions x items array, so
that a training of RecTools' takes minutes rather than an hour; the losses of the first steps show that it is the same.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import Clock, Job, memory, read_job, save_vectors, versions
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.lightning import TransformerLightningModule

WARM_UP = 2
FIRST_STEPS = 10  # whose losses are kept


def interactions(user: np.ndarray, item: np.ndarray) -> Dataset:
    """A RecTools data set whose time stamps are the events' places in the file."""
    return Dataset.construct(
        pd.DataFrame(
            {
                Columns.User: user,
                Columns.Item: item,
                Columns.Weight: 1.0,
                Columns.Datetime: pd.to_datetime(np.arange(len(user)), unit="s"),
            }
        )
    )


class ChunkedLoss(TransformerLightningModule):
    """RecTools' softmax loss, mean over the positions with a target, in chunks of positions."""

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        from semacdr.models.losses import linear_cross_entropy

        items = self.torch_model.item_model.get_all_embeddings()
        wanted = batch["y"] != 0
        states = self.torch_model.encode_sessions(batch, items)[wanted]
        loss = linear_cross_entropy(states, items, batch["y"][wanted]) / len(states)
        self.log(self.train_loss_name, loss, on_step=False, on_epoch=True)
        return loss


class Meter(Callback):
    """Reads the clock after each step or epoch, and exports vectors after each epoch of a training."""

    def __init__(self, job: Job, histories: Dataset, num_histories: int, num_items: int) -> None:
        self.job, self.histories, self.num_histories, self.num_items = job, histories, num_histories, num_items
        self.steps: list[Clock] = []
        self.epochs: list[dict[str, Any]] = []
        self.losses: list[float] = []
        self.start = Clock.now()

    def __deepcopy__(self, memo: dict[int, Any]) -> Meter:
        return self  # RecTools copies its trainer before it fits

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.start = Clock.now()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.steps.append(Clock.now())
        if len(self.losses) < FIRST_STEPS:
            self.losses.append(float(outputs["loss"]))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.job.kind != "train":
            return
        epoch = trainer.current_epoch + 1
        loss = float(trainer.callback_metrics[pl_module.train_loss_name])
        self.epochs.append({"epoch": epoch, "loss": loss, **Clock.now().since(self.start)})
        with torch.random.fork_rng():
            self.export(pl_module, epoch)
        self.job.write({**self.costs(), "epochs": self.epochs})
        pl_module.train()
        self.start = Clock.now()

    def costs(self) -> dict[str, Any]:
        """What an epoch of the training cost so far, and the largest memory."""
        return {
            "versions": versions("rectools", "pytorch-lightning", "pandas"),
            "peak_rss_bytes": memory(),
            "first_losses": self.losses,
            "cpu_s_per_epoch": float(np.median([epoch["cpu_s"] for epoch in self.epochs])),
            "measured": f"whole epochs: {len(self.epochs)}",
        }

    def export(self, pl_module: Any, epoch: int) -> None:
        """Vectors of the test histories by RecTools' own path; zeros where it knows no item."""
        preparator = pl_module.data_preparator
        wanted = preparator.transform_dataset_u2i(self.histories, np.arange(self.num_histories))
        user, item = pl_module._get_user_item_embeddings(preparator.get_dataloader_recommend(wanted, 256), "cpu")
        users = np.zeros((self.num_histories, user.shape[1]), np.float32)
        items = np.zeros((self.num_items + 1, item.shape[1]), np.float32)
        users[wanted.user_id_map.external_ids.astype(np.int64)] = user.numpy()
        known = preparator.item_id_map.external_ids[preparator.n_item_extra_tokens :].astype(np.int64)
        items[known] = item.numpy()[preparator.n_item_extra_tokens :]
        save_vectors(self.job.vector_folder(epoch), users, items)


def main() -> None:
    job = read_job()
    sys.path.append(str(Path(__file__).resolve().parents[2]))  # for the chunked loss: semacdr is not installed here
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    imported, start = memory("VmRSS"), Clock.now()
    seed_everything(job.seed)
    arrays = np.load(job.data)
    train = interactions(arrays["train_sequence"], arrays["train_item"])
    histories = interactions(arrays["history"], arrays["history_item"])
    meter = Meter(job, histories, int(arrays["num_histories"]), int(arrays["num_items"]))
    if job.model["ffn_dim"] != job.model["embedding_dim"]:
        raise SystemExit("RecTools' inner network is as wide as the model: ffn_dim must equal embedding_dim")
    model = SASRecModel(
        n_factors=job.model["embedding_dim"],
        n_blocks=job.model["num_layers"],
        n_heads=job.model["num_heads"],
        dropout_rate=job.model["dropout"],
        session_max_len=job.model["max_seq_len"],
        batch_size=job.model["batch_size"],
        lr=job.model["learning_rate"],
        loss="softmax",
        lightning_module_type=ChunkedLoss if job.loss == "chunked" else TransformerLightningModule,
    )
    length = {"max_epochs": job.epochs} if job.kind == "train" else {"max_steps": WARM_UP + job.steps}
    # RecTools' own defaults, on the CPU, with the meter.
    model._trainer = Trainer(
        **length,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[meter],
    )
    model.fit(train)
    if job.kind == "train":
        return  # all is written
    steps_per_epoch = int(model.fit_trainer.num_training_batches)
    events = model.data_preparator.train_dataset
    job.write(
        {
            "versions": versions("rectools", "pytorch-lightning", "pandas"),
            "import_rss_bytes": imported,
            "peak_rss_bytes": memory(),
            "parameters": sum(p.numel() for p in model.torch_model.parameters()),
            "prep_cpu_s": meter.start.cpu - start.cpu,
            "steps_per_epoch": steps_per_epoch,
            "targets_per_epoch": len(events.interactions.df) - int(events.user_id_map.size),
            "first_losses": meter.losses,
            "cpu_s_per_epoch": meter.steps[-1].since(meter.steps[WARM_UP - 1])["cpu_s"] / job.steps * steps_per_epoch,
            "measured": f"{job.steps} steps after {WARM_UP} of warm-up, extrapolated to {steps_per_epoch}",
        }
    )


if __name__ == "__main__":
    main()
