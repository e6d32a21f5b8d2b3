"""Studies: settings chosen on validation, with the same number of trials for every model.

A trial is a training of its own, judged by its validation targets. Finished trials are kept in an Optuna study in the
bench folder, and in a record as plain values; what is tried next depends on them and on the seed alone, so that a
study that was killed goes on as if it had not been. The first trial is the settings as the config gives them, where
they lie in the space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from semacdr.bench.config import Range, Space, Tuning
from semacdr.bench.plan import Line
from semacdr.bench.prepare import Prepared
from semacdr.errors import MissingExtraError
from semacdr.evaluation.metrics import lower_is_better
from semacdr.files import fingerprint, read_json, write_json, write_text

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

STUDIES = "studies.sqlite"
TUNED = "tuned"
PROPOSALS = 50  # until one is not among the trials before; a small space is used up sooner


class Study:
    """The search for one line's settings.

    Args:
        line: the line.
        data: its data set.
        tuning: how many trials, and the seed.
        metric: that counts.
        out: the bench folder.
    """

    def __init__(self, line: Line, data: Prepared, tuning: Tuning, metric: str, out: Path) -> None:
        self.line, self.tuning, self.metric, self.out = line, tuning, metric, out
        identity = {
            "dataset": data.fingerprint,
            "model": line.model,
            **line.resolved(tuning.seed),
            "tables": line.tables(data),
            "space": {key: _plain(values) for key, values in line.space.items()},
            "protocol": line.protocols[0],
            "metric": metric,
        }
        self.name = f"{line.place} {fingerprint(identity)[:8]}"
        self.base = {**identity["config"], **identity["training"]}
        self._study: OptunaStudy | None = None

    @property
    def _chosen(self) -> Path:
        place = self.out / TUNED / self.line.place
        return place.with_name(f"{place.name}.json")

    def chosen(self) -> dict[str, Any] | None:
        """The settings that were chosen; None while trials are left."""
        if not self._chosen.is_file():
            return None
        found = read_json(self._chosen)
        same = found["study"] == self.name and found["trials"] == self.tuning.trials
        return dict(found["settings"]) if same else None

    def trials(self) -> list[FrozenTrial]:
        """The finished and failed trials, in order, at most as many as the tuning asks for."""
        return self._all()[: self.tuning.trials]

    def next(self) -> tuple[int, dict[str, Any]]:
        """Number and settings of the next trial."""
        optuna = _optuna()
        done = self.trials()
        number = len(done)
        if number == 0 and (base := self._base_values()) is not None:
            return number, base
        sampler = optuna.samplers.TPESampler(seed=self.tuning.seed * 10_007 + number, n_startup_trials=_startup(self))
        search = optuna.create_study(direction=self._direction, sampler=sampler)
        search.add_trials(done)
        tried = [trial.params for trial in done]
        for _ in range(PROPOSALS):
            found = dict(search.ask(_distributions(self.line.space)).params)
            if found not in tried:
                break
        return number, found

    def record(self, settings: Mapping[str, Any], value: float | None, notes: Mapping[str, Any]) -> None:
        """Keeps a trial; one without a value has failed, and counts."""
        optuna = _optuna()
        state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
        self._load().add_trial(
            optuna.trial.create_trial(
                params=dict(settings),
                distributions=_distributions(self.line.space),
                value=value,
                state=state,
                user_attrs=dict(notes),
            )
        )

    def as_values(self) -> list[dict[str, Any]]:
        """The trials as plain values: ``settings``, ``value`` (None: it failed) and ``seconds``."""
        return [{"settings": t.params, "value": t.value, "seconds": t.user_attrs["seconds"]} for t in self.trials()]

    def check(self, values: Sequence[Mapping[str, Any]]) -> None:
        """Whether these are trials of this study, as :meth:`as_values` gives them.

        Raises:
            ValueError: settings that are not in the space, or no score.
            KeyError, TypeError, AttributeError: one that is no trial.
        """
        for at, trial in enumerate(values):
            settings, value = trial["settings"], trial["value"]
            if settings.keys() != self.line.space.keys():
                raise ValueError(f"trial {at + 1} has other settings than the space")
            for key, space in self.line.space.items():
                if not (space.holds(settings[key]) if isinstance(space, Range) else settings[key] in space):
                    raise ValueError(f"trial {at + 1}: {key} {settings[key]!r} is not in the space")
            if not (value is None or _is_number(value)) or not _is_number(trial["seconds"]):
                raise ValueError(f"trial {at + 1} has no score and seconds")

    def differs(self, values: Sequence[Mapping[str, Any]]) -> int | None:
        """Number (from 1) of the first trial that is another than the one here; None where there is none."""
        pairs = enumerate(zip(values, self._all()), start=1)
        ours = (at for at, (there, here) in pairs if (there["settings"], there["value"]) != (here.params, here.value))
        return next(ours, None)

    def take(self, values: Sequence[Mapping[str, Any]]) -> int:
        """Adds the trials beyond those that are here, as many as the tuning asks for; they are checked.

        Returns:
            how many came.
        """
        new = values[len(self._all()) : self.tuning.trials]
        for trial in new:
            self.record(trial["settings"], trial["value"], {"seconds": trial["seconds"]})
        return len(new)

    def close(self) -> dict[str, Any]:
        """Chooses the best settings and writes them, as a file that ``--config`` takes too.

        Where every trial failed, the settings stay those of the config, whose run will say what is wrong.
        """
        done = [trial for trial in self.trials() if trial.value is not None]
        sign = 1 if lower_is_better(self.metric) else -1
        best = min(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)
        settings, value = (dict(best.params), best.value) if best else ({}, None)
        found = "which all failed" if value is None else f"{self.metric} {value:.4f} under {self.line.protocols[0]}"
        head = (
            f"# {self.line.label} on {self.line.dataset}: chosen in {self.tuning.trials} trials on validation, {found}."
        )
        values = yaml.safe_dump({**self.line.settings, **settings}, sort_keys=False)
        write_text(self._chosen.with_name(f"{self._chosen.stem}.yaml"), f"{head}\n{values}")
        summary = {"study": self.name, "trials": self.tuning.trials, "metric": self.metric, "value": value}
        write_json(self._chosen, {**summary, "settings": settings})
        return settings

    def _all(self) -> list[FrozenTrial]:
        return self._load().get_trials(deepcopy=False)

    @property
    def _direction(self) -> str:
        return "minimize" if lower_is_better(self.metric) else "maximize"

    def _load(self) -> OptunaStudy:
        if self._study is None:
            optuna = _optuna()
            self.out.mkdir(parents=True, exist_ok=True)
            storage = f"sqlite:///{(self.out / STUDIES).resolve()}"
            self._study = optuna.create_study(
                study_name=self.name, storage=storage, direction=self._direction, load_if_exists=True
            )
        return self._study

    def _base_values(self) -> dict[str, Any] | None:
        """The config's own values of the settings that are tuned, if all of them may be tried."""
        values = {key: self.base[key] for key in self.line.space}
        allowed = all(
            space.holds(values[key]) if isinstance(space, Range) else values[key] in space
            for key, space in self.line.space.items()
        )
        return values if allowed else None


def _startup(study: Study) -> int:
    """Trials that are drawn at random before the search learns from them: a third, but at least three."""
    return max(3, study.tuning.trials // 3)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(values: Range | list[Any]) -> Any:
    return values.model_dump() if isinstance(values, Range) else values


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    distributions = _optuna().distributions
    made: dict[str, BaseDistribution] = {}
    for key, values in space.items():
        if not isinstance(values, Range):
            made[key] = distributions.CategoricalDistribution(values)
        elif isinstance(values.low, int) and isinstance(values.high, int):
            made[key] = distributions.IntDistribution(values.low, values.high, log=values.log)
        else:
            made[key] = distributions.FloatDistribution(float(values.low), float(values.high), log=values.log)
    return made


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "tune") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
