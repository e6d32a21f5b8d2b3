"""MovieLens 100k (Harper & Konstan 2015) as a cross-domain pair: the films' genres divide them into two item sets.

Read from RecBole's atomic files (``ml-100k.inter``, ``ml-100k.item``; the recbole package ships them, and nothing of
recbole is imported to find them) or from GroupLens' own ``u.data`` and ``u.item``. Titles are turned from catalogue
order ("Godfather, The (1972)") into reading order ("The Godfather"), with the year in a column of its own.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from semacdr.data import schema
from semacdr.data.badrows import NOT_A_RATING, ORIGIN, BadRows
from semacdr.data.readers import DEFAULT_GENRE_DOMAINS, ReadOptions
from semacdr.data.readers.atomic import read_atomic
from semacdr.data.readers.raw import RawData, drop_missing, drop_unknown_items, to_epoch_seconds
from semacdr.data.readers.text import fields, read_lines
from semacdr.errors import InputError

# In the order of the flags of u.item.
GENRES = ["unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"]
GENRES += ["Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"]
_ARTICLE = re.compile(r"^(.*), (The|A|An|La|Le|Les|L'|Il|El|Los|Las|Das|Der|Die|Lo|Un|Une|O|Det|Den)$", re.DOTALL)
_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
_OTHER_TITLE = re.compile(r"\(([^()]*)\)")


def read(path: Path | None, options: ReadOptions, report: BadRows) -> RawData:
    """Reads ml-100k from a folder, or from the recbole package without one.

    Raises:
        InputError: neither file layout is there, or the genre domains are not well formed.
    """
    domains = parse_genre_domains(options.genre_domains or DEFAULT_GENRE_DOMAINS)
    folder = path or shipped_folder()
    if (folder / "ml-100k.inter").is_file():
        events = read_atomic(folder / "ml-100k.inter", report)
        items = read_atomic(folder / "ml-100k.item", report)
        items = items.rename(columns={"movie_title": schema.TITLE, "release_year": "year", "class": "genres"})
    elif (folder / "u.data").is_file():
        names = [schema.USER_ID, schema.ITEM_ID, schema.RATING, schema.TIMESTAMP]
        events = fields(read_lines(folder / "u.data", report), "\t", names, report)
        items = _grouplens_items(folder / "u.item", report)
    else:
        raise InputError("neither ml-100k.inter nor u.data is here", where=str(folder), fix="semacdr data list")
    events = drop_missing(events, [schema.USER_ID, schema.ITEM_ID], report)
    items = drop_missing(items, [schema.ITEM_ID, "genres"], report)
    events = to_epoch_seconds(events, report)
    rating = pd.to_numeric(events[schema.RATING], errors="coerce")  # each row has one, other than in a table
    events = report.drop(events.assign(**{schema.RATING: rating}), rating.isna(), NOT_A_RATING)
    genres = items["genres"].str.split()
    titles = items[schema.TITLE].map(split_title)
    columns: dict[str, Any] = {
        schema.ITEM_ID: items[schema.ITEM_ID],
        schema.DOMAIN: [_domain_of(set(kinds), domains) for kinds in genres],
        schema.TITLE: titles.str[0],
        "year": items["year"].where(items["year"].str.fullmatch(r"\d{4}"), titles.str[1]),
        "genres": genres.map(lambda kinds: [kind for kind in kinds if kind != "unknown"]),
        **{name: items[name] for name in ORIGIN},
    }
    items = pd.DataFrame(columns)
    # A domain is listed first whose name comes first in the option, not whose film happens to have the lowest number.
    rank = items[schema.DOMAIN].map({name: at for at, (name, _) in enumerate(domains)})
    items = items.iloc[rank.argsort(kind="stable")]
    return RawData(
        name="ml-100k",
        events=drop_unknown_items(events, items, report),
        items=items,
        order="total",
        time_unit="second",
        sort_by_time=True,
    )


def shipped_folder() -> Path:
    """The folder of ml-100k inside the recbole package, which is found but not imported.

    Raises:
        InputError: recbole is not installed.
    """
    spec = find_spec("recbole")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "recbole, whose package ships ml-100k, is not installed",
            fix="pip install 'semacdr[recbole]', or: semacdr data fetch ml-100k, then --input DIR",
        )
    return Path(spec.submodule_search_locations[0]) / "dataset_example" / "ml-100k"


def parse_genre_domains(text: str) -> list[tuple[str, set[str]]]:
    """``name=genre,genre;name=*`` to (name, genres) in order.

    Raises:
        InputError: no name, fewer than two domains, or a genre that ml-100k does not have.
    """
    parsed = []
    for part in text.split(";"):
        name, separator, listed = part.partition("=")
        genres = {genre.strip() for genre in listed.split(",")}
        unknown = sorted(genres - {*GENRES, "*"})
        if not separator or not name.strip() or unknown:
            wrong = f"unknown genre {unknown[0]!r}" if unknown and separator else f"{part!r} is not name=genre,genre"
            raise InputError(wrong, where="--genre-domains", fix=f"genres: {', '.join(GENRES)}, * for the rest")
        parsed.append((name.strip(), genres))
    if len({name for name, _ in parsed}) < 2 or len({name for name, _ in parsed}) != len(parsed):
        raise InputError("two or more domains with different names are needed", where="--genre-domains")
    return parsed


def _domain_of(genres: set[str], domains: list[tuple[str, set[str]]]) -> str:
    for name, wanted in domains:
        if "*" in wanted or genres & wanted:
            return name
    raise InputError(f"no domain takes the genres {sorted(genres)}", where="--genre-domains", fix="end with name=*")


def split_title(title: str | None) -> tuple[str | None, str | None]:
    """A catalogue title to (readable title, year): articles in front, the year taken off; unknown titles are null."""
    if not isinstance(title, str) or title.strip() in ("", "unknown", "unkonwn"):  # the second is recbole's spelling
        return None, None
    year = _YEAR.search(title)
    if year:
        title = title[: year.start()]
    main = _OTHER_TITLE.sub("", title).strip()
    others = [_article_first(other.strip()) for other in _OTHER_TITLE.findall(title)]
    readable = " ".join([_article_first(main), *(f"({other})" for other in others)])
    return " ".join(readable.split()), year.group(1) if year else None


def _article_first(title: str) -> str:
    found = _ARTICLE.match(title)
    if not found:
        return title
    rest, article = found.groups()
    return f"{article}{rest}" if article.endswith("'") else f"{article} {rest}"


def _grouplens_items(path: Path, report: BadRows) -> pd.DataFrame:
    """``u.item``: ``id|title (year)|date|video date|url|19 flags``, in Latin-1."""
    names = [schema.ITEM_ID, schema.TITLE, "date", "video_date", "url", *GENRES]
    items = fields(read_lines(path, report, encoding="latin-1"), "|", names, report)
    flags = (items[GENRES] == "1").to_numpy()
    genres = [" ".join(genre for genre, has in zip(GENRES, row) if has) for row in flags]
    return items.drop(columns=GENRES).assign(genres=genres, year="")
