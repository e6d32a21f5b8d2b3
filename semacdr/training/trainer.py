"""Trains a model into a run folder: one pass of whole sequences an epoch, early stopping, exact resume."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from semacdr import run as run_folder
from semacdr.config import Settings, build, split_keys
from semacdr.data.dataset import Dataset
from semacdr.data.split_names import in_full, parse_split
from semacdr.data.splits import make_split
from semacdr.device import emulates_bf16, pick_device
from semacdr.embedding.semantic_ids import SemanticIds
from semacdr.embedding.table import USERS, EmbeddingTable
from semacdr.errors import InputError, SemacdrError
from semacdr.evaluation.protocols import check_targets, get_protocol
from semacdr.files import read_json, write_atomic, write_json, write_text
from semacdr.memory import peak_bytes, reset_peak
from semacdr.models.base import Recommender
from semacdr.models.rating import RatingRecommender
from semacdr.models.registry import model_class
from semacdr.progress import Progress, say
from semacdr.training.checkpoint import (
    load_tensors,
    optimiser_tensors,
    restore_optimiser,
    save_tensors,
    with_prefix,
    without_prefix,
)
from semacdr.training.settings import CommonSettings, TrainSettings
from semacdr.training.tasks import RankingTask, Task


def make_optimiser(model: torch.nn.Module, settings: CommonSettings) -> torch.optim.AdamW:
    """AdamW; decay only where it means something, unless the settings say all: matrices, not biases, norms, scalars."""
    learned = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in learned if p.dim() >= 2 or settings.decay_all]
    others = [p for p in learned if p.dim() < 2 and not settings.decay_all]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate, fused=True)


def rate_at(step: int, total: int, settings: CommonSettings) -> float:
    """Learning rate of a step (0-based): linear warm-up, then a cosine down to ``final_rate`` of the peak."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    done = min(1.0, max(0.0, (step - settings.warmup_steps) / max(1, total - settings.warmup_steps)))
    cosine = settings.final_rate + (1 - settings.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate * warm * cosine


@dataclass
class Cursor:
    """Where training stands; all that resume needs besides tensors."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_score: float = -1.0
    best_epoch: int = -1
    loss_sum: float = 0.0
    last_loss: float = 0.0
    train_seconds: float = 0.0
    cpu_seconds: float = 0.0
    valid_cpu_seconds: float = 0.0


class Trainer:
    """Drives one model over one task. ``folder`` None keeps everything in memory."""

    def __init__(
        self, model: Recommender | RatingRecommender, task: Task, settings: CommonSettings, folder: Path | None = None
    ) -> None:
        self.model, self.task, self.settings, self.folder = model, task, settings, folder
        self.device = pick_device(settings.device)
        self.batches = task.batches
        self.model.to(self.device)
        self.optimiser = make_optimiser(model, settings)
        self.cursor = Cursor()
        self.best: dict[str, torch.Tensor] = {}
        self.log: list[dict[str, Any]] = []
        self.last_checkpoint = time.monotonic()

    def train(self) -> Cursor:
        """Trains to the end, from the checkpoint if there is one; leaves the best weights in the model."""
        self._resume()
        if not self.task.watched:
            say("no validation targets: training runs for all epochs and keeps the last weights")
        settings, cursor = self.settings, self.cursor
        if settings.precision == "bf16" and emulates_bf16(self.device):
            say("torch knows no instructions for bf16 here: a step takes many times as long as in precision=fp32")
        total = len(self.batches) * settings.epochs
        if cursor.step == 0 and 0 < total < settings.warmup_steps:
            say(f"all {total} steps are warm-up (warmup_steps={settings.warmup_steps}): learning_rate is never reached")
        progress = Progress(total, "train", "steps", done=cursor.step)
        while not self.stopped():
            self._epoch(total, progress)
            if cursor.epoch % settings.eval_every == 0 or cursor.epoch == settings.epochs or self._capped():
                self._validate()
        progress.close()
        if self.best:
            self.model.load_state(self.best)
        self.model.eval()
        return cursor

    def stopped(self) -> str | None:
        """Why no further epoch starts: ``epochs``, ``patience`` or ``cap``; None while training goes on."""
        cursor = self.cursor
        waited = (cursor.epoch - cursor.best_epoch) // self.settings.eval_every
        if cursor.epoch >= self.settings.epochs:
            return "epochs"
        if cursor.best_epoch >= 0 and waited >= self.settings.patience:
            return "patience"
        return "cap" if self._capped() else None

    def _capped(self) -> bool:
        """Whether the CPU seconds are spent and an epoch is whole; what a kill undid does not count."""
        cursor, cap = self.cursor, self.settings.cap_cpu_s
        whole = cursor.epoch > 0 and cursor.batch == 0
        return cap is not None and whole and cursor.cpu_seconds + cursor.valid_cpu_seconds >= cap

    def _epoch(self, total: int, progress: Progress) -> None:
        cursor = self.cursor
        self.model.train()
        for batch in self.batches.epoch(cursor.epoch, cursor.batch):
            started, cpu = time.perf_counter(), time.process_time()
            loss = self._step(batch.to(self.device), total)
            cursor.train_seconds += time.perf_counter() - started
            cursor.cpu_seconds += time.process_time() - cpu
            cursor.loss_sum += loss
            cursor.batch += 1
            cursor.step += 1
            progress.update(1, f"loss {cursor.loss_sum / cursor.batch:.4f}")
            if time.monotonic() - self.last_checkpoint > self.settings.checkpoint_s:
                self._save()
        cursor.last_loss = cursor.loss_sum / max(1, len(self.batches))
        cursor.epoch, cursor.batch, cursor.loss_sum = cursor.epoch + 1, 0, 0.0

    def _step(self, batch: Any, total: int) -> float:
        # Every step derives its own random state, so a resumed run draws what an unbroken one would.
        torch.manual_seed(self.settings.seed * 1_000_003 + self.cursor.step + 1)
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.cursor.step, total, self.settings)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16()):
            loss = self.model.loss(batch)
        value = float(loss.total.detach())
        if not math.isfinite(value):
            fix = "lower learning_rate or clip_norm, or train with precision=fp32"
            if self.cursor.step == 0:  # no rate has been at work yet
                fix = "the model's own computation: its settings, or in a new model empty histories (Batch.events())"
            raise SemacdrError(f"the loss is {value} at step {self.cursor.step} ({loss.parts})", fix=fix)
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimiser.step()
        return value

    def _bf16(self) -> bool:
        if self.settings.precision == "auto":
            return self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return self.settings.precision == "bf16"

    def _validate(self) -> None:
        cursor, cpu = self.cursor, time.process_time()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.task.validates_in_bf16 and self._bf16()):
            scores = self.task.validate()
        cursor.valid_cpu_seconds += time.process_time() - cpu
        score = -scores["all"] if self.task.lower_is_better else scores["all"]
        # with nothing to choose by the last one counts
        better = cursor.best_epoch < 0 or score > cursor.best_score or not self.task.watched
        if better:
            cursor.best_score, cursor.best_epoch = score, cursor.epoch
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        line = {
            "epoch": cursor.epoch,
            "step": cursor.step,
            "loss": cursor.last_loss,
            f"valid_{self.task.metric}": scores,
            "best": better,
            "train_seconds": round(cursor.train_seconds, 3),
            "train_cpu_seconds": round(cursor.cpu_seconds, 3),
        }
        self.log.append(line)
        domains = " ".join(f"{name} {value:.4f}" for name, value in scores.items())
        mark = " *" if better else ""
        say(f"epoch {cursor.epoch}: loss {cursor.last_loss:.4f}, valid {self.task.metric} {domains}{mark}")
        self._save()

    def _save(self) -> None:
        if self.folder is None:
            return
        tensors = {
            **with_prefix("model", self.model.state_dict()),
            **with_prefix("best", self.best),
            **optimiser_tensors(self.optimiser),
        }
        save_tensors(self.folder / run_folder.CHECKPOINT, tensors, {"cursor": vars(self.cursor), "log": self.log})
        write_text(self.folder / run_folder.LOG, "".join(json.dumps(line) + "\n" for line in self.log))
        self.last_checkpoint = time.monotonic()

    def _resume(self) -> None:
        if self.folder is None or not (self.folder / run_folder.CHECKPOINT).is_file():
            return
        tensors, meta = load_tensors(self.folder / run_folder.CHECKPOINT)
        self.model.load_state(without_prefix("model", tensors))
        self.best = without_prefix("best", tensors)
        restore_optimiser(self.optimiser, tensors)
        self.cursor, self.log = Cursor(**meta["cursor"]), meta["log"]
        say(f"resuming at epoch {self.cursor.epoch}, batch {self.cursor.batch}")


def train(
    model: str,
    dataset: str | Path,
    out: str | Path,
    embeddings: str | Path | None = None,
    settings: dict[str, Any] | None = None,
    user_embeddings: str | Path | None = None,
    ids: str | Path | None = None,
) -> Path:
    """Trains a model by name into a run folder; the same call again resumes or finds it done.

    Args:
        model: name, see :data:`semacdr.models.registry.MODELS`.
        dataset: data set folder.
        out: run folder.
        embeddings: embedding table folder, for models that read text.
        settings: flat mapping of the model's and the trainer's settings.
        user_embeddings: folder of an embedding table of users, for models that read their profiles.
        ids: folder of semantic ids, for models that know items by them.

    Returns:
        the run folder.

    Raises:
        InputError: unknown names or settings, tables or a protocol that the model or the split does not allow, or
            ``out`` holds a different run.
    """
    out = Path(out)
    cls = model_class(model)
    config_values, train_values = split_keys(settings or {}, cls.Config, TrainSettings)
    config = build(cls.Config, config_values, f"settings of {model}")
    training = build(TrainSettings, train_values, "training settings")
    if embeddings is not None and not cls.reads_text:
        raise InputError(f"{model} reads no text", where=f"--embeddings {embeddings}", fix="leave --embeddings out")
    if user_embeddings is not None and not cls.reads_users:
        where = f"--user-embeddings {user_embeddings}"
        raise InputError(f"{model} reads no profiles of users", where=where, fix="leave --user-embeddings out")
    if ids is not None and not cls.needs_codes(config):
        why = f"; they are read under other settings of {model}" if cls.reads_codes else ""
        raise InputError(f"{model} reads no semantic ids{why}", where=f"--ids {ids}", fix="leave --ids out")
    reset_peak()
    data = Dataset.load(dataset)
    split = make_split(data, training.split)
    check_targets(get_protocol(training.valid_protocol), split.train_count[split.valid.target])
    if user_embeddings is not None and parse_split(training.split) is not None:
        # they are written from all that comes before leave-one-out's targets (semacdr.data.known)
        where = f"--user-embeddings {user_embeddings}, split={split.name}"
        fix = "leave --user-embeddings out"
        raise InputError("profiles of users tell of events that this split hides", where=where, fix=fix)
    table = EmbeddingTable.load(embeddings) if embeddings is not None else None
    users = EmbeddingTable.load(user_embeddings, USERS) if user_embeddings is not None else None
    codes = SemanticIds.load(ids) if ids is not None else None
    manifest = {
        **manifest_head(model, data, config, training),
        "embeddings": None if embeddings is None else str(Path(embeddings).resolve()),
        "embeddings_fingerprint": None if table is None else table.fingerprint,
        "user_embeddings": None if user_embeddings is None else str(Path(user_embeddings).resolve()),
        "user_embeddings_fingerprint": None if users is None else users.fingerprint,
        "ids": None if ids is None else str(Path(ids).resolve()),
        "ids_fingerprint": None if codes is None else codes.fingerprint,
    }
    if already_trained(out, manifest, cls.Config()):
        return out
    torch.manual_seed(training.seed)
    instance = run_folder.build_model(model, config.model_dump(), data, split, table, users, codes)
    if cls.reads_text and table is None and codes is None and not cls.reads_item_texts:
        say(f"{model}: no --embeddings, so items are ids alone")
    for note in instance.notes():
        say(f"{model}: {note}")
    write_json(out / run_folder.RUN, manifest)
    if cls.trained_by_gradient:
        return train_by_gradient(instance, RankingTask(instance, data, split, training), training, out, manifest)
    return fit_by_counting(instance, split.train, out, manifest)


def manifest_head(model: str, data: Dataset, config: Settings, training: Settings) -> dict[str, Any]:
    """What run.json says of every run, whatever its task."""
    return {
        "format_version": run_folder.FORMAT_VERSION,
        "status": "running",
        "model": model,
        "dataset": str(data.path.resolve()),
        "dataset_name": data.name,
        "dataset_fingerprint": data.fingerprint,
        "config": config.model_dump(mode="json"),  # as it will be read back: lists, not tuples
        "training": training.model_dump(mode="json"),
    }


def train_by_gradient(
    model: Recommender | RatingRecommender, task: Task, settings: CommonSettings, out: Path, manifest: dict[str, Any]
) -> Path:
    """Trains a model on its task and finishes the run folder."""
    trainer = Trainer(model, task, settings, out)
    cursor = trainer.train()
    best = -cursor.best_score if task.lower_is_better else cursor.best_score
    result = {
        "best_epoch": cursor.best_epoch,
        "epochs": cursor.epoch,
        "stopped_by": trainer.stopped(),
        f"valid_{task.metric}": best,
        "train_seconds": round(cursor.train_seconds, 2),
        "train_cpu_seconds": round(cursor.cpu_seconds, 2),
    }
    return _finish(model, result, out, manifest)


def fit_by_counting(model: Recommender | RatingRecommender, train: Any, out: Path, manifest: dict[str, Any]) -> Path:
    """Fits a counting model on the training part and finishes the run folder."""
    started, cpu = time.perf_counter(), time.process_time()
    model.fit(train)
    result = {
        "train_seconds": round(time.perf_counter() - started, 2),
        "train_cpu_seconds": round(time.process_time() - cpu, 2),
    }
    return _finish(model, result, out, manifest)


def _finish(model: torch.nn.Module, result: dict[str, Any], out: Path, manifest: dict[str, Any]) -> Path:
    """Writes the weights and the manifest of a finished training."""
    state = model.state_dict()
    result["device"] = str(next(chain(model.buffers(), model.parameters())).device)
    result["parameters"] = sum(p.numel() for p in model.parameters())
    result["trained_parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    result["peak_rss_bytes"] = peak_bytes()
    weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomic(out / run_folder.WEIGHTS, lambda temporary: save_file(weights, temporary))
    write_json(
        out / run_folder.RUN,
        {**manifest, "status": "done", "result": result, "environment": run_folder.environment()},
    )
    (out / run_folder.CHECKPOINT).unlink(missing_ok=True)
    return out


def _differences(name: str, there: Any, asked: Any) -> str:
    """What is not the same, of mappings the keys alone."""
    if not isinstance(there, dict) or not isinstance(asked, dict):
        return f"{name}: {there} there, {asked} asked for"
    none = "nothing"  # a key that an older version did not have
    pairs = {key: (there.get(key, none), asked.get(key, none)) for key in {**there, **asked}}
    return "; ".join(f"{key}: {old} there, {new} asked for" for key, (old, new) in pairs.items() if old != new)


def already_trained(out: Path, manifest: dict[str, Any], defaults: Settings) -> bool:
    """Whether ``out`` holds this very run, finished; a different run there is an error.

    Settings of the model that an older version did not have stood at their defaults.
    """
    if not (out / run_folder.RUN).is_file():
        return False
    there = read_json(out / run_folder.RUN)
    if "split" in there["training"]:
        there["training"]["split"] = in_full(there["training"]["split"])  # older runs have it as it was typed
    if there["model"] == manifest["model"]:
        there["config"] = {**defaults.model_dump(mode="json"), **there["config"]}
    if there["status"] != "done" and not (out / run_folder.CHECKPOINT).is_file():
        return False  # it ended before it had anything to keep
    ignored = (
        "status",
        "dataset",
        "embeddings",
        "user_embeddings",
        "ids",
    )  # folders may move; fingerprints may not change
    changed = [key for key, value in manifest.items() if key not in ignored and there.get(key) != value]
    if changed:
        details = "; ".join(_differences(key, there.get(key), manifest[key]) for key in changed)
        raise InputError(
            f"holds another run ({details[:600]})", where=str(out), fix="choose another --out, or delete it"
        )
    if there["status"] == "done":
        say(f"{out}: already trained with these settings")
        return True
    return False
