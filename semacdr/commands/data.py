"""List, fetch, convert, describe or export data sets.

A data set folder holds interactions.parquet, items.parquet, for published splits targets.parquet, and dataset.json.

For example:
  semacdr data convert --format movielens --output data/films
  semacdr data describe data/films
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from semacdr.commands.nested import actions_of, print_json
from semacdr.data.fetch import SOURCES, fetch
from semacdr.data.readers import DEFAULT_GENRE_DOMAINS, FORMATS, ReadOptions, find_format
from semacdr.errors import InputError
from semacdr.progress import say

_EXAMPLES = {
    "list": "example: semacdr data list",
    "fetch": "example: semacdr data fetch ml-100k --dir raw",
    "convert": "examples:\n"
    "  semacdr data convert --format abxi --input raw/afk --output data/afk\n"
    "  semacdr data convert --format table --input in.csv --domain books --columns item_id=isbn --output data/books\n"
    "  semacdr data convert --format amazon --input raw --output data/amazon --dedup --min-user 5 --min-item 5",
    "describe": "example: semacdr data describe data/films --json",
    "export": "example: semacdr data export data/films --format atomic --output recbole/films",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands."""
    action = actions_of(parser, _EXAMPLES)

    listing = action("list", "raw formats that can be converted, and data that can be fetched")
    listing.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")

    fetching = action("fetch", "download public raw data, with its terms and a checksum; a broken download goes on")
    fetching.add_argument("name", metavar="NAME", help="see: semacdr data list")
    fetching.add_argument("--dir", type=Path, default=Path("raw"), help="where to (default: raw)")
    fetching.add_argument("--url", help="take the file from this address instead")
    fetching.add_argument("--sha256", help="expected hash, where none is known")

    converting = action("convert", "turn raw data into a data set folder")
    converting.add_argument("--format", required=True, metavar="F", help=", ".join(FORMATS))
    converting.add_argument("--input", type=Path, metavar="DIR", help="raw data (movielens: optional)")
    converting.add_argument("--output", type=Path, required=True, metavar="DIR", help="the data set folder to write")
    converting.add_argument("--name", help="of the data set (default: the input's)")
    converting.add_argument("--columns", metavar="OURS=THEIRS,...", help="column names of a table")
    converting.add_argument("--domain", help="domain of rows that name none (table, amazon, atomic)")
    converting.add_argument(
        "--domain-field", help="field of the .item file that is the domain (atomic; default: domain)"
    )
    converting.add_argument(
        "--genre-domains", metavar="NAME=GENRE,...;NAME=*", help=f"movielens; {DEFAULT_GENRE_DOMAINS}"
    )
    converting.add_argument(
        "--from", dest="from_time", metavar="TIME", help="keep events from then on (date or seconds)"
    )
    converting.add_argument("--to", dest="to_time", metavar="TIME", help="keep events before then (date or seconds)")
    converting.add_argument(
        "--dedup",
        nargs="?",
        const="rows",
        choices=("rows", "items", "off"),
        help="keep the first of equal (user, item, time) rows, of equal (user, item) pairs, or all; unset, repeated "
        "rows are faults, but published sequences (abxi, urllm, s3rec) are kept as they are",
    )
    converting.add_argument("--keep-last", type=_count, metavar="N", help="newest events of a user to keep")
    converting.add_argument("--min-user", type=_count, default=0, metavar="N", help="core: least events of a user")
    converting.add_argument("--min-item", type=_count, default=0, metavar="N", help="core: least events of an item")
    converting.add_argument(
        "--min-user-domain", type=_count, default=0, metavar="N", help="core: least events of a user in every domain"
    )
    converting.add_argument(
        "--keep-overlap",
        type=float,
        metavar="SHARE",
        help="share (0 to 1) of the users of several domains that stay whole; each other becomes one user a domain",
    )
    converting.add_argument("--overlap-seed", type=_count, default=0, metavar="N", help="of that choice (default: 0)")
    converting.add_argument("--skip-bad", action="store_true", help="leave bad rows out instead of stopping")
    converting.add_argument("--json", action="store_true", help="the manifest, alone on stdout")

    describing = action("describe", "the card of a data set: counts, overlap, lengths, titles, split, leaks")
    describing.add_argument("dataset", type=Path, metavar="DIR")
    describing.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")

    exporting = action("export", "write a data set in another format")
    exporting.add_argument("dataset", type=Path, metavar="DIR")
    exporting.add_argument("--format", choices=("atomic",), default="atomic", help="RecBole's atomic files")
    exporting.add_argument("--output", type=Path, required=True, metavar="DIR", help="its name is the data set's name")


def run(args: argparse.Namespace) -> int | None:
    """Runs one action."""
    return {"list": _list, "fetch": _fetch, "convert": _convert, "describe": _describe, "export": _export}[args.action](
        args
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _list(args: argparse.Namespace) -> None:
    if args.json:
        formats = {name: {"summary": entry.summary, "needs": entry.needs} for name, entry in FORMATS.items()}
        sources = {
            name: {
                "summary": source.summary,
                "format": source.format,
                "terms": source.licence,
                "urls": list(source.urls),
                "sha256": source.sha256,
                "bytes": source.size_bytes,
            }
            for name, source in SOURCES.items()
        }
        print_json({"formats": formats, "sources": sources})
        return
    print("formats (semacdr data convert --format F --input DIR --output DIR):")
    for name, entry in FORMATS.items():
        print(f"  {name:<11}{entry.summary}\n{'':<13}needs {entry.needs}")
    print("\nto fetch (semacdr data fetch NAME; nothing is fetched unasked):")
    for name, source in SOURCES.items():
        size = "" if source.size_bytes is None else f" ({source.size_bytes / 1e6:.1f} MB)"
        print(f"  {name:<21}{source.summary}{size}\n{'':<23}format {source.format}; terms: {source.licence}")


def _fetch(args: argparse.Namespace) -> None:
    for path in fetch(args.name, args.dir, args.url, args.sha256):
        print(path)


def _convert(args: argparse.Namespace) -> None:
    find_format(args.format)
    options = ReadOptions(_columns(args.columns), args.domain, args.domain_field, args.genre_domains)
    from semacdr.data.convert import convert
    from semacdr.data.filters import Filters

    filters = Filters(
        from_time=_time(args.from_time, "--from"),
        to_time=_time(args.to_time, "--to"),
        dedup=args.dedup,
        keep_last=args.keep_last,
        min_user=args.min_user,
        min_item=args.min_item,
        min_user_domain=args.min_user_domain,
        keep_overlap=args.keep_overlap,
        overlap_seed=args.overlap_seed,
    )
    manifest = convert(args.format, args.input, args.output, options, filters, name=args.name, skip_bad=args.skip_bad)
    if args.json:
        print_json(manifest)
        return
    counts = manifest["counts"]
    targets = f", {counts['targets']:,} published targets" if counts["targets"] else ""
    print(
        f"{args.output}: {counts['users']:,} users, {counts['items']:,} items of {', '.join(manifest['domains'])}, "
        f"{counts['events']:,} events{targets}"
    )
    say(f"next: semacdr data describe {args.output}")


def _columns(text: str | None) -> dict[str, str]:
    """``ours=theirs,ours=theirs`` to a dict."""
    pairs = [pair.partition("=") for pair in text.split(",")] if text else []
    for ours, separator, theirs in pairs:
        if not separator or not ours.strip() or not theirs.strip():
            raise InputError(
                f"{ours + separator + theirs!r} is not ours=theirs", where="--columns", fix="user_id=buyer"
            )
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _time(text: str | None, option: str) -> int | None:
    """Epoch seconds of a number or an ISO date (UTC where it names no zone)."""
    if text is None:
        return None
    if text.lstrip("-").isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{text!r} is neither seconds nor a date", where=option, fix="2014-01-31") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _describe(args: argparse.Namespace) -> None:
    from semacdr.data.dataset import Dataset
    from semacdr.data.describe import card_text, describe

    card = describe(Dataset.load(args.dataset))
    if args.json:
        print_json(card)
    else:
        print(card_text(card))


def _export(args: argparse.Namespace) -> None:
    from semacdr.data.dataset import Dataset
    from semacdr.data.readers.atomic import export_atomic

    dataset = Dataset.load(args.dataset)
    paths = export_atomic(dataset, args.output)
    if dataset.targets is not None:
        say("the published targets are left out: RecBole's files have no place for them")
    for path in paths:
        print(path)
