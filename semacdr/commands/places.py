"""Where the data of a run are now: what every command that opens a run folder takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

PLACES = {
    "dataset": "where the data set is now, if it moved",
    "embeddings": "where the embeddings are now, if they moved",
    "user_embeddings": "where those of users are now, likewise",
    "ids": "where the semantic ids are now, likewise",
}


def add_places(parser: argparse.ArgumentParser) -> None:
    """``--dataset``, ``--embeddings`` and so on."""
    for name, text in PLACES.items():
        parser.add_argument("--" + name.replace("_", "-"), type=Path, metavar="DIR", help=text)


def places(args: argparse.Namespace) -> dict[str, Any]:
    """What was given, as the arguments of :func:`semacdr.run.load_run`."""
    return {name: getattr(args, name) for name in PLACES}
