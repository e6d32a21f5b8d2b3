"""Writes a page of pictures on a bench or on runs: one HTML file that opens anywhere, without a network.

A leaderboard to sort, bars of each domain, cold items and users, training curves, cost, the weights of SemaCDR, a map
of the items and what the models would have shown some users. Nothing is trained or evaluated: what is missing is named.
A folder that holds run folders stands for these.

Items are called by their titles; --no-titles puts their ids everywhere, for a page that may not hold them.

example: semacdr report runs/bench/food-kitchen --no-titles
         semacdr report runs/semacdr runs/sasrec --out comparison.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

from semacdr.commands.places import add_places, places


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``semacdr report``."""
    parser.add_argument("places", nargs="+", type=Path, metavar="RUN_OR_BENCH", help="a bench folder, or run folders")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: report.html in the first folder)")
    parser.add_argument(
        "--titles",
        action=argparse.BooleanOptionalAction,
        help="call items by their titles (default: yes; of a bench what its config says), or by their ids",
    )
    add_places(parser)


def run(args: argparse.Namespace) -> None:
    """Runs ``semacdr report``."""
    from semacdr.errors import InputError
    from semacdr.files import check_writable
    from semacdr.report.report import REPORT, write_report
    from semacdr.report.runs import read_subject

    for place in args.places:
        if not place.is_dir():
            raise InputError("no such folder", where=str(place), fix="name a run folder or a bench folder")
    out = args.out or args.places[0] / REPORT
    check_writable(out)
    print(write_report(read_subject(args.places), out, args.titles, places(args)))
