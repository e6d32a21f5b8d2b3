"""The config of a bench: data sets, models, seeds, protocols, tuning, published results. Unknown keys are errors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from semacdr.config import Settings, build, read_yaml
from semacdr.data.filters import Filters
from semacdr.data.readers import ReadOptions, find_format
from semacdr.data.split_names import LEAVE_ONE_OUT, in_full, parse_split
from semacdr.embedding.id_settings import id_settings
from semacdr.errors import InputError, nearest
from semacdr.evaluation.ratings import RATING
from semacdr.local_models import EMBEDDED
from semacdr.resources import find_config

Name = Annotated[str, Field(pattern=r"^[\w.-]+$")]
"""Names a folder too."""
Scores = dict[str, dict[str, float | tuple[float, float]]]
"""domain -> metric -> mean, or mean and standard deviation over seeds."""
RESERVED = {
    "seed": "seeds",
    "cap_cpu_s": "cap_cpu_s beside the settings",
    "domain": "rating_domains of the data set",
    "split": "split of the data set",
}
"""What the bench itself says to a training -> where the config says it."""


class ConvertOptions(Settings):
    """The options of ``semacdr data convert``, under their names there."""

    columns: dict[str, str] = Field(default_factory=dict)
    domain: str | None = None
    domain_field: str | None = None
    genre_domains: str | None = None
    from_time: int | None = None
    to_time: int | None = None
    dedup: Literal["rows", "items", "off"] | None = None
    keep_last: int | None = Field(default=None, ge=0)
    min_user: int = Field(default=0, ge=0)
    min_item: int = Field(default=0, ge=0)
    min_user_domain: int = Field(default=0, ge=0)
    keep_overlap: float | None = Field(default=None, ge=0, le=1)
    overlap_seed: int = Field(default=0, ge=0)
    skip_bad: bool = False

    def reader(self) -> ReadOptions:
        """What the reader is told."""
        return ReadOptions(**{key: getattr(self, key) for key in vars(ReadOptions())})

    def filters(self) -> Filters:
        """What is left out afterwards."""
        return Filters(**{key: getattr(self, key) for key in vars(Filters())})


class Embeddings(Settings):
    """A table of text vectors: made by ``semacdr embed``, or one that is there."""

    encoder: str = EMBEDDED
    """The embedded encoder, a local folder or a hub name."""
    profiles: Path | None = None
    """A file of ``semacdr profile export``, relative to the data root; None embeds content alone."""
    folder: Path | None = None
    """A finished table, relative to the data root, taken as it is."""


class DatasetEntry(Settings):
    """A data set and how it is divided: raw data to convert, a folder that is there, or the data of another entry."""

    name: Name
    format: str | None = None
    """Of the raw data, as in ``semacdr data convert --format``."""
    input: Path | None = None
    """Raw data, relative to the data root, or else beside the config."""
    convert: ConvertOptions = Field(default_factory=ConvertOptions)
    folder: Path | None = None
    """A data set folder, relative to the data root, taken as it is, instead of format and input."""
    same_as: Name | None = None
    """The entry whose data, embeddings and ids these are, to divide them in another way."""
    split: Annotated[str, AfterValidator(in_full)] = LEAVE_ONE_OUT
    """As in ``semacdr train split=...``."""
    embeddings: Embeddings | None = None
    """Of the items, for the models that read text."""
    user_embeddings: Embeddings | None = None
    """Of the users, for the models that read their profiles; not given under a split that hides events they tell of."""
    ids: dict[str, Any] | None = None
    """Settings of ``semacdr ids``, for the models that know items by semantic ids; ``{}`` for its defaults. They are
    made of the embeddings."""
    protocols: list[str] | None = Field(default=None, min_length=1)
    """In place of the bench's. Models whose task has no protocol here do not run on this data set."""
    rating_domains: list[str] = Field(default_factory=list)
    """The domains whose ratings are predicted, each by a model of its own, under protocol rating."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.format, self.folder, self.same_as)) != 1:
            raise ValueError(f"data set {self.name} needs either a format (and its input), a folder, or same_as")
        own = self.model_fields_set & {"input", "convert", "embeddings", "user_embeddings", "ids"}
        if self.same_as is not None and own:
            raise ValueError(f"data set {self.name} has the {min(own)} of {self.same_as}, and none of its own")
        if self.format is not None:
            find_format(self.format)
        if bool(self.rating_domains) != (RATING in (self.protocols or ())):
            raise ValueError(f"data set {self.name}: rating_domains and protocols: [rating] go together")
        if parse_split(self.split) is not None and RATING in (self.protocols or ()):
            raise ValueError(f"data set {self.name}: ratings have a split of their own, and {self.split} is of events")
        if self.user_embeddings and not (self.user_embeddings.profiles or self.user_embeddings.folder):
            raise ValueError(f"the user embeddings of {self.name} need profiles, or a folder")
        if self.ids is not None:
            id_settings(self.ids)
            if self.embeddings is None:
                raise ValueError(f"the ids of {self.name} are made of its embeddings: give it some")
        return self


class Range(Settings):
    """Values between two ends; whole numbers where both ends are."""

    low: int | float
    high: int | float
    log: bool = False
    """Small values as likely as large ones."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low} must be less than high {self.high}, and over 0 where log is set")
        return self

    def holds(self, value: Any) -> bool:
        """Whether a setting's value lies in it."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high


Space = dict[str, Range | list[bool | int | float | str]]
"""setting -> the values that are tried."""


class Plugins(Settings):
    """LoID's plug-ins, pre-trained once for all seeds on other domains of the data set."""

    domains: list[str] = Field(min_length=1)
    """The sources; a domain is no source of its own."""
    config: Path | None = None
    """Settings of the pre-training, as ``semacdr loid pretrain --config`` takes them."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Over those of the file."""


class ModelEntry(Settings):
    """A line of the leaderboard: a model and its settings."""

    name: str
    """Of the model, as in ``semacdr train --model``."""
    label: str = ""
    """What the leaderboard calls it; the model's name by default. Two lines need two labels."""
    config: Path | None = None
    """A file of settings, yours or a shipped one."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Over those of the file."""
    seeds: list[int] | None = None
    """In place of the bench's."""
    cap_cpu_s: float | None = Field(default=None, gt=0)
    """In place of the bench's."""
    text: bool = True
    """False keeps the text embeddings from a model that would read them."""
    datasets: list[Name] | None = None
    """The data sets it runs on; all by default."""
    plugins: Plugins | None = None
    """For LoID as a rating model."""
    space: Space | None = None
    """What tuning tries. ``{}``: there is nothing to tune."""

    @property
    def title(self) -> str:
        """The label."""
        return self.label or self.name


class Tuning(Settings):
    """One study a model and data set, on validation alone, with the same number of trials for every model."""

    trials: int = Field(gt=0)
    seed: int = Field(default=0, ge=0)
    """Of the search, and of every training in it."""


class Published(Settings):
    """Numbers from elsewhere: they stand in rows of their own and are tested against nothing."""

    model: str
    dataset: Name
    protocol: str
    cite: str
    """Where they are from."""
    seeds: int = Field(default=1, ge=1)
    values: Scores


class BenchConfig(Settings):
    """A whole bench."""

    name: Name
    data_root: Path = Path("raw")
    """What inputs, profiles and folders are relative to; ``--data-root`` goes before it. What is not there is looked
    for beside the config."""
    datasets: list[DatasetEntry] = Field(min_length=1)
    models: list[ModelEntry] = Field(default_factory=list)
    all_models: bool = False
    """Adds every ranking model that no entry names, with its defaults."""
    defaults: dict[str, Any] = Field(default_factory=dict)
    """Settings for each model that has them; below those of its entry."""
    seeds: list[int] = Field([0], min_length=1)
    protocols: list[str] = Field(["full"], min_length=1)
    coverage: list[Annotated[int, Field(gt=0)]] = Field(default_factory=list)
    """The k of coverage@k, the share of items in the first k of at least one list, under protocol full."""
    metric: str = "ndcg@10"
    """That the tables lead with, that tests compare, and that tuning improves."""
    rating_metric: Literal["mse", "mae"] = "mse"
    """The same for protocol rating."""
    cap_cpu_s: float | None = Field(default=None, gt=0)
    """CPU seconds of a training, after which no epoch starts; see the trainer's setting of that name."""
    tuning: Tuning | None = None
    """None: every model runs with the settings of its entry."""
    published: list[Published] = Field(default_factory=list)
    titles: bool = True
    """Items are called by their titles in report.html; False for data whose titles may not be passed on."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = [entry.name for entry in self.datasets]
        _distinct("data set", known)
        for data in self.datasets:
            # embeddings/NAME holds the items' table of a data set and embeddings/NAME-users the users'
            if data.user_embeddings is not None and f"{data.name}-users" in known:
                what = f"the user embeddings of {data.name} have the folder of data set {data.name}-users"
                raise ValueError(f"{what}; give that another name")
        _distinct("model label", [slug(entry.title) for entry in self.models])
        for data in self.datasets:
            if data.same_as is not None and self.data_of(data).same_as is not None:
                raise ValueError(f"data set {data.name} is the same as {data.same_as}, which is the same as another")
            hiding = parse_split(data.split)
            if "full-cold" in self.protocols_of(data.name) and (hiding is None or hiding.kind != "cold-item"):
                raise ValueError(f"data set {data.name}: protocol full-cold needs split: cold-item, not {data.split}")
        if not self.models and not self.all_models:
            raise ValueError("no models: list some, or set all_models: true")
        for entry in self.models:
            for name in entry.datasets or ():
                if name not in known:
                    raise ValueError(f"{entry.title} is to run on an unknown data set {name!r}: {nearest(name, known)}")
            if self.tuning and entry.space is None:
                raise ValueError(
                    f"{entry.title} has no space to tune in; write space: {{}} where nothing is to be tuned"
                )
            if entry.space and entry.plugins:
                raise ValueError(f"{entry.title}: a line with plug-ins is not tuned; write space: {{}}")
            if entry.space and not self.tuning:
                raise ValueError(f"{entry.title} has a space, but the bench has no tuning")
        if self.tuning and self.all_models:
            raise ValueError("tuning needs a space for each model, so all_models cannot be set")
        if self.coverage and not any("full" in self.protocols_of(name) for name in known):
            raise ValueError("coverage is of the lists of protocol full, which this bench has not")
        for row in self.published:
            if row.dataset not in known:
                raise ValueError(f"{row.model} (published) is on an unknown data set {row.dataset!r}")
            if row.protocol not in self.protocols_of(row.dataset):
                raise ValueError(f"{row.model} (published) has protocol {row.protocol!r}, which this bench has not")
        return self

    def protocols_of(self, dataset: str) -> list[str]:
        """The protocols of a data set."""
        (entry,) = (entry for entry in self.datasets if entry.name == dataset)
        return list(dict.fromkeys(entry.protocols or self.protocols))

    def data_of(self, entry: DatasetEntry) -> DatasetEntry:
        """The entry that says what the data of one are: itself, or the one that it is the same as."""
        if entry.same_as is None:
            return entry
        found = [other for other in self.datasets if other.name == entry.same_as]
        if not found:
            names = [other.name for other in self.datasets if other.same_as is None]
            what = f"data set {entry.name} is to be the same as an unknown {entry.same_as!r}"
            raise ValueError(f"{what}: {nearest(entry.same_as, names)}")
        return found[0]

    def lead(self, protocol: str) -> str:
        """The metric that counts under a protocol."""
        return self.rating_metric if protocol == RATING else self.metric


def slug(label: str) -> str:
    """A label as a folder's name."""
    return re.sub(r"[^\w.-]+", "-", label).strip("-") or "-"


def _distinct(what: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{what} {twice[0]!r} stands there twice")


def read_config(path: Path) -> BenchConfig:
    """Reads a bench config, by path or by its name among the shipped ones (``bench/quick.yaml``).

    Raises:
        InputError: no such file, or faults in it, all of them together.
    """
    found = find_config(path)
    try:
        return build(BenchConfig, read_yaml(found), where=str(path))
    except InputError as error:
        raise InputError(error.what, where=str(path), fix=error.fix) from None
