"""RecTools' SASRec as shipped: its own preparation, Lightning loop and softmax loss. Runs in its own environment."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import Clock, Job, memory, read_job, save_vectors, versions
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

WARM_UP = 2


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


class Meter(Callback):
    """Reads the clock after each step or epoch, and exports vectors after each epoch of a training."""

    def __init__(self, job: Job, histories: Dataset, num_histories: int, num_items: int) -> None:
        self.job, self.histories, self.num_histories, self.num_items = job, histories, num_histories, num_items
        self.steps: list[Clock] = []
        self.epochs: list[dict[str, Any]] = []
        self.start = Clock.now()

    def __deepcopy__(self, memo: dict[int, Any]) -> Meter:
        return self  # RecTools copies its trainer before it fits

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.start = Clock.now()

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.steps.append(Clock.now())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.job.kind != "train":
            return
        epoch = trainer.current_epoch + 1
        loss = float(trainer.callback_metrics[pl_module.train_loss_name])
        self.epochs.append({"epoch": epoch, "loss": loss, **Clock.now().since(self.start)})
        with torch.random.fork_rng():
            self.export(pl_module, epoch)
        pl_module.train()
        self.start = Clock.now()

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
    peak = memory()
    begin = model.fit_trainer.num_training_batches
    result = {
        "versions": versions("rectools", "pytorch-lightning", "pandas"),
        "import_rss_bytes": imported,
        "peak_rss_bytes": peak,
        "parameters": sum(p.numel() for p in model.torch_model.parameters()),
        "steps_per_epoch": int(begin),
        "targets_per_epoch": int(
            len(model.data_preparator.train_dataset.interactions.df)
            - model.data_preparator.train_dataset.user_id_map.size
        ),
    }
    if job.kind == "train":
        result["epochs"] = meter.epochs
        result["cpu_s_per_epoch"] = float(np.median([epoch["cpu_s"] for epoch in meter.epochs]))
        result["measured"] = f"{len(meter.epochs)} whole epochs"
    else:
        cost = meter.steps[-1].since(meter.steps[WARM_UP - 1])["cpu_s"] / job.steps
        result["prep_cpu_s"] = meter.start.cpu - start.cpu
        result["cpu_s_per_epoch"] = cost * result["steps_per_epoch"]
        result["measured"] = f"{job.steps} steps after {WARM_UP} of warm-up, extrapolated to {begin}"
    job.write(result)


if __name__ == "__main__":
    main()
