"""semacdr's SASRec, trained by semacdr's trainer; whole epochs, since its steps differ in cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from common import Clock, Job, memory, read_job, save_vectors, versions

from semacdr.data.batches import example_batches
from semacdr.data.dataset import Dataset
from semacdr.data.splits import make_split
from semacdr.models.baselines.sasrec import SASRec, SASRecConfig
from semacdr.training.settings import TrainSettings
from semacdr.training.tasks import RankingTask
from semacdr.training.trainer import Trainer


@dataclass
class Epochs:
    """What each epoch cost."""

    start: Clock
    costs: list[dict[str, Any]] = field(default_factory=list)


class MeteredTrainer(Trainer):
    """Takes the place of validation to read the clock, and keeps the last weights rather than the best."""

    job: Job
    epochs: Epochs

    def _validate(self) -> None:
        cost = Clock.now().since(self.epochs.start)
        self.epochs.costs.append({"epoch": self.cursor.epoch, "loss": self.cursor.last_loss, **cost})
        if self.job.kind == "train":
            self.export()
            self.job.write({**costs_of(self.epochs.costs), "epochs": self.epochs.costs})
        self.epochs.start = Clock.now()

    def export(self) -> None:
        """Writes the vectors as they stand."""
        model, task = self.model, self.task
        assert isinstance(model, SASRec)
        assert isinstance(task, RankingTask)
        examples = task.split.test
        model.eval()
        users = np.zeros((len(examples), model.id.embedding_dim), np.float32)
        for rows, batch in example_batches(examples, task.dataset.item_domain, 512, model.max_seq_len):
            users[rows] = model.encode(batch).numpy()
        save_vectors(self.job.vector_folder(self.cursor.epoch), users, model.prepared_items().numpy())
        model.train()


def costs_of(costs: list[dict[str, Any]]) -> dict[str, Any]:
    """What an epoch of the training cost so far, and the largest memory."""
    counted = costs[1:] or costs
    return {
        "versions": versions("semacdr"),
        "peak_rss_bytes": memory(),
        "cpu_s_per_epoch": float(np.median([cost["cpu_s"] for cost in counted])),
        "measured": f"whole epochs after one of warm-up: {len(counted)}",
    }


def main() -> None:
    job = read_job()
    imported, start = memory("VmRSS"), Clock.now()
    dataset = Dataset.load(job.dataset)
    split = make_split(dataset)
    width = job.model["embedding_dim"]
    config = SASRecConfig(
        embedding_dim=width,
        num_layers=job.model["num_layers"],
        num_heads=job.model["num_heads"],
        ffn_dim=job.model["ffn_dim"],
        dropout=job.model["dropout"],
        max_seq_len=job.model["max_seq_len"],
        scope="all",
    )
    settings = TrainSettings(
        epochs=job.epochs if job.kind == "train" else 2,
        batch_size=job.model["batch_size"],
        learning_rate=job.model["learning_rate"],
        warmup_steps=0,  # as the others
        seed=job.seed,
        device="cpu",
        precision="fp32",
    )
    torch.manual_seed(job.seed)
    model = SASRec(config, dataset.catalogue(split.train_count))
    trainer = MeteredTrainer(model, RankingTask(model, dataset, split, settings), settings)
    prep = Clock.now().since(start)
    trainer.job, trainer.epochs = job, Epochs(Clock.now())
    trainer.train()
    if job.kind == "train":
        return  # all is written
    result = costs_of(trainer.epochs.costs)
    batches = list(trainer.batches.epoch(0))
    job.write(
        {
            **result,
            "prep_cpu_s": prep["cpu_s"],
            "import_rss_bytes": imported,
            "parameters": sum(p.numel() for p in model.parameters()),
            "steps_per_epoch": len(batches),
            "targets_per_epoch": sum(int((b.targets > 0).sum() + (b.first_target > 0).sum()) for b in batches),
        }
    )


if __name__ == "__main__":
    main()
