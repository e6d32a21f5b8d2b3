"""Readers of published raw formats, one module each, found by name and loaded only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from semacdr.errors import InputError, nearest

if TYPE_CHECKING:
    from semacdr.data.badrows import BadRows
    from semacdr.data.readers.raw import RawData

DEFAULT_GENRE_DOMAINS = "thrills=Action,Adventure,Crime,Film-Noir,Horror,Mystery,Sci-Fi,Thriller,War,Western;stories=*"


@dataclass(frozen=True)
class ReadOptions:
    """What a user can tell a reader; a reader refuses what it has no use for."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our column name -> the file's (table)."""
    domain: str | None = None
    """Domain of rows that name none (table, amazon with one category)."""
    domain_field: str | None = None
    """Field of the ``.item`` file that holds the domain (atomic)."""
    genre_domains: str | None = None
    """``name=genre,genre;name=*`` (movielens)."""


@dataclass(frozen=True)
class Format:
    """One raw format: what it needs, which options it takes, and whether its rows are published as they are."""

    summary: str
    needs: str
    options: frozenset[str] = frozenset()
    published: bool = False  # repeats are part of the data and kept
    input_optional: bool = False


FORMATS = {
    "abxi": Format(
        "ABXI's merged sequences (WWW 2025), published order",
        "sequences.txt (user idx|ts ...), items.jsonl (idx, item, domain, title); users.jsonl if there is one; or .gz",
        published=True,
    ),
    "urllm": Format(
        "URLLM's split: one history, a target in each domain",
        "train_F2.txt, valid_F2.txt, test_F2.txt, items.jsonl (idx, domain, title); users.txt if there is one; or .gz",
        published=True,
    ),
    "s3rec": Format(
        "S3Rec / P5 5-core sets, several domains joined by reviewer id",
        "DOMAIN.sequential.txt, DOMAIN.datamaps.json; DOMAIN.items.jsonl if there is one; or .gz",
        published=True,
    ),
    "movielens": Format(
        "MovieLens 100k as a pair of genre domains",
        "nothing (ml-100k ships inside the recbole package), or a folder with ml-100k.inter/.item or u.data/u.item",
        options=frozenset({"genre_domains"}),
        input_optional=True,
    ),
    "atomic": Format(
        "RecBole's atomic files",
        "NAME.inter and NAME.item, domains in the field domain:token (or --domain-field)",
        options=frozenset({"domain_field", "domain"}),
    ),
    "table": Format(
        "CSV, TSV, JSON lines or parquet, plain or gz",
        "a file, or a folder with [DOMAIN.]interactions.* or [DOMAIN.]reviews.* and [DOMAIN.]items.*",
        options=frozenset({"columns", "domain"}),
    ),
    "amazon": Format(
        "Amazon reviews and metadata of 2014, 2018 or 2023, told apart by content",
        "reviews_X.json + meta_X.json (2014), X.json + meta_X.json (2018), X.jsonl + meta_X.jsonl (2023); plain or gz",
        options=frozenset({"domain"}),
    ),
}

Reader = Callable[[Path | None, ReadOptions, "BadRows"], "RawData"]


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        InputError: no such format, with the nearest valid name.
    """
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}", fix=nearest(name, FORMATS))
    return FORMATS[name]


def find_reader(name: str) -> Reader:
    """The ``read`` function of a format's module."""
    find_format(name)
    return cast(Reader, import_module(f"semacdr.data.readers.{name}").read)


def check_options(name: str, options: ReadOptions) -> None:
    """Refuses options that the format has no use for.

    Raises:
        InputError: an option is set that this format does not take.
    """
    taken = find_format(name).options
    for option in ("columns", "domain", "domain_field", "genre_domains"):
        if getattr(options, option) and option not in taken:
            owners = [other for other, entry in FORMATS.items() if option in entry.options]
            flag = option.replace("_", "-")
            raise InputError(
                f"--{flag} means nothing to format {name}", fix=f"formats that take it: {', '.join(owners)}"
            )
