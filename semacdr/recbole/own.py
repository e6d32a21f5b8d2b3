"""RecBole's own sequential models, trained by RecBole's trainer on our split.

A data set of ours goes to RecBole through :func:`semacdr.recbole.export.export`; its parts are compared with our split
before anything is trained. The run folder is like any other, and its weights are no pickle. Validation inside the
training is RecBole's own: ndcg@10 of our validation targets among all items of all domains.

RecBole's package turns autograd's anomaly detection on when it is imported, which makes every step about half as long
again and changes no result: it is off here.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole.utils import get_trainer
from safetensors.torch import save_file
from torch import Tensor

from semacdr import run as run_folder
from semacdr.config import build, split_keys
from semacdr.data.dataset import Dataset
from semacdr.data.splits import make_split
from semacdr.errors import InputError, SemacdrError
from semacdr.files import write_atomic, write_json, write_text
from semacdr.memory import peak_bytes, reset_peak
from semacdr.models.recbole_own import OwnTraining, own_name, own_settings
from semacdr.progress import Progress, say
from semacdr.recbole.own_data import VALID_METRIC, Side, check_split, items_fingerprint, open_side, quietly, refusals
from semacdr.training.trainer import already_trained, manifest_head

_SCRATCH = "recbole"  # in the run folder, while it is trained


def train(model: str, dataset: str | Path, out: str | Path, settings: dict[str, Any] | None = None) -> Path:
    """Trains ``recbole:NAME`` into a run folder; the same call finds it done, or begins anew where it was killed.

    Args:
        model: ``recbole:GRU4Rec`` and so on.
        dataset: data set folder.
        out: run folder.
        settings: flat mapping of RecBole's keys and those of :class:`semacdr.models.recbole_own.OwnTraining`.

    Returns:
        the run folder.

    Raises:
        InputError: unknown names or settings, settings that RecBole refuses, a split that it cannot make, or ``out``
            holds a different run.
        SemacdrError: the training diverged.
    """
    out, name = Path(out), own_name(model)
    config_values, train_values = split_keys(settings or {}, own_settings(model), OwnTraining)
    config = build(own_settings(model), config_values, f"settings of {model}")
    training = build(OwnTraining, train_values, "training settings")
    reset_peak()
    data = Dataset.load(Path(dataset).resolve())
    split = make_split(data)
    manifest = {
        **manifest_head(model, data, config, training),
        "embeddings": None,
        "embeddings_fingerprint": None,
        "user_embeddings": None,
        "user_embeddings_fingerprint": None,
        "ids": None,
        "ids_fingerprint": None,
    }
    if already_trained(out, manifest, own_settings(model)()):
        return out
    check_split(data, split)
    scratch = out.resolve() / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)  # of a training that was killed
    scratch.mkdir(parents=True)
    try:
        # RecBole's trainer makes folders of its own where it is called.
        with contextlib.chdir(scratch), quietly():
            side = open_side(name, config, training, data, split, scratch)
            with refusals(name):
                fit = Fit(side, training, scratch.parent / run_folder.LOG)
            write_json(scratch.parent / run_folder.RUN, manifest)
            result = fit.run()
    except InputError:
        (out / run_folder.RUN).unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with contextlib.suppress(OSError):
            out.rmdir()  # if nothing was begun
    result["device"] = str(side.config["device"])
    result["parameters"] = result["trained_parameters"] = sum(p.numel() for p in fit.model.parameters())
    result["peak_rss_bytes"] = peak_bytes()
    weights = {key: value.cpu().contiguous() for key, value in fit.best.items()}
    write_atomic(out / run_folder.WEIGHTS, lambda temporary: save_file(weights, temporary))
    ended = {"status": "done", "items_fingerprint": items_fingerprint(side), "result": result}
    write_json(out / run_folder.RUN, {**manifest, **ended, "environment": run_folder.environment()})
    return out


class _CapReachedError(Exception):
    """The CPU seconds are spent, which ends RecBole's loop."""


class Fit:
    """A training by RecBole's trainer that keeps the best weights in memory, a log, and to the cap."""

    def __init__(self, side: Side, training: OwnTraining, log: Path) -> None:
        self.side, self.cap, self.log_file = side, training.cap_cpu_s, log
        self.model = side.model()
        self.trainer = get_trainer(side.config["MODEL_TYPE"], side.config["model"])(side.config, self.model)
        self.best: dict[str, Tensor] = {}
        self.best_epoch, self.epochs = 0, 0
        self.seconds = self.cpu_seconds = 0.0
        self.log: list[dict[str, Any]] = []
        self.progress = Progress(self.trainer.epochs, "train", "epochs")

    def run(self) -> dict[str, Any]:
        """Trains; returns what run.json tells of it."""
        started, stopped = time.process_time(), "epochs"
        one_epoch: Callable[..., Any] = self.trainer._train_epoch

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self.cap is not None and self.epochs and time.process_time() - started >= self.cap:
                raise _CapReachedError
            wall, cpu = time.perf_counter(), time.process_time()
            loss = one_epoch(*args, **kwargs)
            self.seconds += time.perf_counter() - wall
            self.cpu_seconds += time.process_time() - cpu
            self.epochs += 1
            self.progress.update(1, f"loss {_total(loss) / max(1, len(self.side.loaders[0])):.4f}")
            return loss

        self.trainer._train_epoch = timed
        try:
            self._fit()
            if self.epochs < self.trainer.epochs:
                stopped = "patience"
        except _CapReachedError:
            stopped = "cap"
        except ValueError as error:
            if not _is_nan(error):
                raise
            fix = "lower learning_rate; BERT4Rec: larger train_batch_size, so that no batch is without a mask"
            raise SemacdrError(f"RecBole: {error}, in epoch {self.epochs + 1}", fix=fix) from None
        finally:
            self.trainer.tensorboard.close()
            self.progress.close()
        if not self.best:
            self._keep()
        return {
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "stopped_by": stopped,
            f"recbole_valid_{VALID_METRIC.lower()}": float(self.trainer.best_valid_score) if self.log else None,
            "train_seconds": round(self.seconds, 2),
            "train_cpu_seconds": round(self.cpu_seconds, 2),
        }

    def _fit(self) -> None:
        try:
            self.trainer.fit(*self.side.loaders[:2], verbose=False, saved=False, callback_fn=self._validated)
        except (_CapReachedError, SemacdrError):
            raise
        except Exception as error:
            # Settings that a model cannot work with show in its first epoch or its first validation, or never.
            if self.log or self.epochs > max(1, self.trainer.eval_step) or _is_nan(error):
                raise
            with refusals(self.side.config["model"]):
                raise

    def _validated(self, epoch: int, score: float) -> None:
        better = self.trainer.cur_step == 0  # RecBole counts the validations since the best
        if better:
            self._keep()
        line = {
            "epoch": epoch + 1,
            "loss": _total(self.trainer.train_loss_dict[epoch]) / max(1, len(self.side.loaders[0])),
            f"recbole_valid_{VALID_METRIC.lower()}": float(score),
            "best": better,
            "train_seconds": round(self.seconds, 3),
            "train_cpu_seconds": round(self.cpu_seconds, 3),
        }
        self.log.append(line)
        write_text(self.log_file, "".join(json.dumps(line) + "\n" for line in self.log))
        say(f"epoch {epoch + 1}: loss {line['loss']:.4f}, RecBole's valid {VALID_METRIC.lower()} {score:.4f}")

    def _keep(self) -> None:
        self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.best_epoch = self.epochs


def _is_nan(error: Exception) -> bool:
    """Whether it is how RecBole's trainer ends a training that diverges."""
    return isinstance(error, ValueError) and "loss is nan" in str(error)


def _total(loss: Any) -> float:
    return float(sum(loss) if isinstance(loss, tuple) else loss)
