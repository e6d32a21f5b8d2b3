"""What a bench is to do: a line for each model on each data set, a cell for each of its seeds, each with its state.

A cell is a run folder. Its name holds the start of a fingerprint of all that its weights depend on, so that what has
changed gets a new folder, what has not is found done, and old results are there when a change is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from semacdr.bench.cell import lacking
from semacdr.bench.config import RESERVED, BenchConfig, DatasetEntry, ModelEntry, Range, Space, slug
from semacdr.bench.identity import code_version, own_code_version
from semacdr.bench.plugins import FOLDER as PLUGINS
from semacdr.bench.plugins import plugin_settings, settings_of
from semacdr.bench.prepare import IDS, Prepared
from semacdr.config import build, read_yaml, split_keys
from semacdr.data.split_names import LEAVE_ONE_OUT, parse_split
from semacdr.embedding.table import ITEMS, USERS
from semacdr.errors import InputError, nearest
from semacdr.evaluation.manifest import evaluated_protocols
from semacdr.evaluation.metrics import metric_values
from semacdr.evaluation.protocols import get_protocol
from semacdr.evaluation.ratings import RATING
from semacdr.files import fingerprint, read_json
from semacdr.models.recbole_own import is_own, own_name
from semacdr.models.registry import MODELS, RATING_MODELS, model_class, rating_model_class
from semacdr.resources import find_config
from semacdr.run import RUN, run_is_done

CELL = "cell.json"
FAILURE = "failure.json"
SETTINGS = "settings.yaml"
LOG = "cell.log"
RUNS = "runs"
_NOTHING = (np.zeros(0, np.int32), np.zeros(0, np.int32))
State = Literal["done", "failed", "left"]


@dataclass(frozen=True)
class Line:
    """One model of a bench on one data set.

    Attributes:
        dataset: name of the data set.
        label: what the leaderboard calls it.
        model: name of the model.
        settings: flat, of the model and its training, without the seed.
        seeds: one training each.
        protocols: that each is evaluated under.
        coverage: the k of coverage@k, under protocol full.
        reads: the subjects of the embedding tables that the model reads.
        space: what tuning tries; empty where nothing is tuned.
        domain: whose ratings it predicts; None for a ranking model, which has them all.
        sources: settings of the plug-ins that it takes, by source domain.
    """

    dataset: str
    label: str
    model: str
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    protocols: tuple[str, ...]
    reads: tuple[str, ...]
    space: Space = field(default_factory=dict)
    domain: str | None = None
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    coverage: tuple[int, ...] = ()

    @property
    def place(self) -> Path:
        """Of its folders, below those that hold one for each line."""
        return Path(self.dataset) / slug(self.label) / (slug(self.domain) if self.domain else "")

    def flat(self, seed: int, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The settings as ``semacdr train --config`` takes them."""
        domain = {"domain": self.domain} if self.domain else {}
        return {**self.settings, **(changes or {}), **domain, "seed": seed}

    def resolved(self, seed: int, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """All settings with their defaults, as run.json will hold them: ``config`` and ``training``."""
        made, owners = {}, settings_of(self.model, rating=self.domain is not None)
        for name, cls, values in zip(("config", "training"), owners, split_keys(self.flat(seed, changes), *owners)):
            made[name] = build(cls, values, f"settings of {self.label}").model_dump(mode="json")
        return made

    def tables(self, data: Prepared) -> dict[str, str]:
        """Fingerprints of the embedding tables that it is given."""
        return {subject: data.table_fingerprints[subject] for subject in self.reads if subject in data.tables}

    def arguments(self, data: Prepared) -> list[str]:
        """Of ``semacdr train`` and ``semacdr evaluate``: where the data are."""
        options = {ITEMS: "--embeddings", USERS: "--user-embeddings", IDS: "--ids"}
        given = [
            word for subject in self.tables(data) for word in (options[subject], str(data.tables[subject].resolve()))
        ]
        return ["--dataset", str(data.folder.resolve()), *given]


@dataclass(frozen=True)
class Cell:
    """One training of a line and its evaluation.

    Attributes:
        line: the line.
        data: its data set.
        seed: of the training.
        settings: flat, those of the line, the chosen ones and the seed.
        trials: settings that were tried to choose these; 1 where they were given.
        folder: the run folder.
        identity: all that the weights depend on.
        older_code: the run is there, made by other code of the model.
    """

    line: Line
    data: Prepared
    seed: int
    settings: dict[str, Any]
    trials: int
    folder: Path
    identity: dict[str, Any]
    older_code: bool = False

    @property
    def name(self) -> str:
        """For a reader."""
        domain = f", {self.line.domain}" if self.line.domain else ""
        return f"{self.line.dataset}{domain}: {self.line.label}, seed {self.seed}"

    def state(self) -> State:
        """Done when it is trained and evaluated under every protocol."""
        line = self.line
        if run_is_done(self.folder) and not lacking(evaluated_protocols(self.folder), line.protocols, line.coverage):
            return "done"
        return "failed" if (self.folder / FAILURE).is_file() else "left"

    def error(self) -> str:
        """What a failed cell said."""
        return str(read_json(self.folder / FAILURE)["error"])


def make_lines(config: BenchConfig) -> list[Line]:
    """The lines of a bench, data set by data set, every setting checked.

    Raises:
        InputError: unknown models, settings, protocols or metrics, all of them together.
    """
    faults = []
    entries = list(config.models)
    if config.all_models:
        named = {entry.name for entry in entries}
        entries += [ModelEntry(name=name) for name in MODELS if name not in named]
    lines: list[Line] = []
    used: set[str] = set()
    for name in config.protocols + [name for dataset in config.datasets for name in config.protocols_of(dataset.name)]:
        if name != RATING:
            get_protocol(name)
    metric_values(*_NOTHING, [config.metric])
    for dataset in config.datasets:
        for entry in entries:
            if entry.datasets is not None and dataset.name not in entry.datasets:
                continue
            try:
                for line, taken in _lines(config, dataset, entry):
                    line.resolved(line.seeds[0], {key: _example(values) for key, values in line.space.items()})
                    lines.append(line)
                    used |= taken
            except InputError as error:
                faults.append(f"{entry.title}: {error.what}" + (f" ({error.fix})" if error.fix else ""))
    idle = {entry.title for entry in entries} - {line.label for line in lines}
    faults += [f"{label}: no data set of its own has a protocol of its task" for label in sorted(idle) if not faults]
    unused = [key for key in config.defaults if key not in used]
    if unused and not faults:
        faults.append(f"no model of the bench has these settings of defaults: {', '.join(unused)}")
    if faults:
        raise InputError("\n  ".join(dict.fromkeys(faults)), where=f"bench {config.name}")
    return lines


def _lines(config: BenchConfig, dataset: DatasetEntry, entry: ModelEntry) -> list[tuple[Line, set[str]]]:
    """The lines of an entry on a data set, each with the bench's defaults that it takes.

    A ranking model has one where the data set has a protocol that ranks; a rating model one for each domain whose
    ratings are predicted; a model that is both has both.
    """
    if is_own(entry.name):
        own_name(entry.name)  # an unknown name is an error wherever it stands
    elif entry.name not in RATING_MODELS:
        model_class(entry.name)
    ranking = tuple(name for name in config.protocols_of(dataset.name) if name != RATING)
    ranks = entry.name in MODELS or is_own(entry.name)
    lines = [_line(config, dataset, entry, ranking, None)] if ranking and ranks else []
    domains = dataset.rating_domains if entry.name in RATING_MODELS else ()
    return lines + [_line(config, dataset, entry, (RATING,), domain) for domain in domains]


def _line(
    config: BenchConfig, dataset: DatasetEntry, entry: ModelEntry, protocols: tuple[str, ...], domain: str | None
) -> tuple[Line, set[str]]:
    own = read_yaml(find_config(entry.config)) if entry.config else {}
    own.update(entry.settings)
    for key in RESERVED:
        if key in own or key in config.defaults or key in (entry.space or ()):
            raise InputError(f"{key!r} is no setting of a line", fix=f"say it with {RESERVED[key]}")
    keys = {key for owner in settings_of(entry.name, rating=domain is not None) for key in owner.model_fields}
    taken = {key: value for key, value in config.defaults.items() if key in keys}
    unknown = [key for key in entry.space or () if key not in keys]
    if unknown:
        raise InputError(f"unknown setting {unknown[0]!r} in its space", fix=nearest(unknown[0], keys))
    if entry.plugins and "plugins" not in keys:
        raise InputError(f"{entry.name} takes no plug-ins")
    followed, hiding = {**taken, **own}.get("valid_protocol"), parse_split(dataset.split)
    wanted = None  # else every cell would say so
    if followed == "full-cold" and (hiding is None or hiding.kind != "cold-item"):
        wanted = "valid_protocol full-cold needs split: cold-item"
    elif is_own(entry.name) and hiding is not None:
        wanted = "RecBole's own models know leave-one-out alone"
    if wanted:
        what = f"{wanted}, and data set {dataset.name} has {dataset.split}"
        raise InputError(what, fix="say with datasets: [...] where the line runs")
    cap = entry.cap_cpu_s or config.cap_cpu_s
    divided = {"split": dataset.split} if domain is None and dataset.split != LEAVE_ONE_OUT else {}
    seeds = entry.seeds or config.seeds
    line = Line(
        dataset=dataset.name,
        label=entry.title,
        model=entry.name,
        settings={**taken, **own, **({"cap_cpu_s": cap} if cap else {}), **divided},
        seeds=tuple(dict.fromkeys(seeds if _is_drawn(entry.name, domain) else seeds[:1])),
        protocols=protocols,
        reads=() if domain or is_own(entry.name) else _reads(config, dataset, entry, {**taken, **own}),
        space=entry.space or {},
        domain=domain,
        sources=plugin_settings(entry.plugins, domain) if entry.plugins and domain else {},
        coverage=tuple(config.coverage) if "full" in protocols else (),
    )
    return line, set(taken)


def _is_drawn(name: str, domain: str | None) -> bool:
    """Whether another seed gives other weights; counting gives the same again."""
    return is_own(name) or (rating_model_class(name) if domain else model_class(name)).trained_by_gradient


def _reads(
    config: BenchConfig, dataset: DatasetEntry, entry: ModelEntry, settings: Mapping[str, Any]
) -> tuple[str, ...]:
    """The subjects of the tables that a ranking model takes; users' profiles tell of events that some splits hide."""
    cls = model_class(entry.name)
    own, _ = split_keys(settings, *settings_of(entry.name, rating=False))
    codes = cls.needs_codes(build(cls.Config, own, f"settings of {entry.title}"))
    if codes and config.data_of(dataset).ids is None:
        what = f"it knows items by semantic ids, and data set {dataset.name} has none"
        raise InputError(what, fix="write ids: {} there, or settings of semacdr ids")
    wanted = {
        ITEMS: cls.reads_text and entry.text,
        USERS: cls.reads_users and parse_split(dataset.split) is None,
        IDS: codes,
    }
    return tuple(subject for subject, reads in wanted.items() if reads)


def _example(values: Range | list[Any]) -> Any:
    """One of the values that tuning may try, to check that the setting takes it."""
    return values.low if isinstance(values, Range) else values[0]


def make_cell(
    line: Line,
    data: Prepared,
    seed: int,
    out: Path,
    chosen: Mapping[str, Any] | None = None,
    trials: int = 1,
    keep_old_code: bool = False,
) -> Cell:
    """A cell, and where it stands.

    Args:
        line: the line.
        data: its data set.
        seed: of the training.
        out: the bench folder.
        chosen: settings that tuning has chosen.
        trials: how many it tried.
        keep_old_code: take a finished run of the same cell by other code of the model, if there is no newer one.
    """
    identity = {
        "dataset": data.fingerprint,
        "model": line.model,
        **_without_places(line.resolved(seed, chosen), out),
        "tables": line.tables(data),
        "code": _code(line),
    }
    folder = out / RUNS / line.place / f"seed-{seed}-{fingerprint(identity)[:8]}"
    cell = Cell(line, data, seed, line.flat(seed, chosen), trials, folder, identity)
    if keep_old_code and cell.state() != "done":
        return _by_older_code(cell) or cell
    return cell


def _without_places(resolved: dict[str, Any], out: Path) -> dict[str, Any]:
    """Settings that are the same wherever a bench lies: of its own plug-ins the name, which holds their fingerprint."""
    config, own = resolved["config"], (out / PLUGINS).resolve()
    if "plugins" not in config:
        return resolved
    folders = [Path(folder) for folder in config["plugins"]]
    names = [folder.name if folder.is_relative_to(own) else str(folder) for folder in folders]
    return {**resolved, "config": {**config, "plugins": names}}


def _code(line: Line) -> str:
    """The version of the code that a line's weights depend on."""
    if is_own(line.model):
        return own_code_version()
    return code_version((RATING_MODELS if line.domain else MODELS)[line.model])


def _by_older_code(cell: Cell) -> Cell | None:
    """The newest finished run that differs from a cell by the code of the model alone."""
    found = []
    for path in cell.folder.parent.glob(f"seed-{cell.seed}-*/{CELL}"):
        identity = read_json(path)["identity"]
        if {**identity, "code": None} == {**cell.identity, "code": None} and run_is_done(path.parent):
            made = (path.parent / RUN).stat().st_mtime
            old = Cell(
                cell.line, cell.data, cell.seed, cell.settings, cell.trials, path.parent, identity, older_code=True
            )
            found.append((made, old))
    return max(found, key=lambda pair: pair[0])[1] if found else None
