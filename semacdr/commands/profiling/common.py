"""Arguments that several actions of ``semacdr profile`` share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from semacdr.errors import InputError


def prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """Which prompts, and which words give a domain away."""
    parser.add_argument(
        "--prompts",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="templates, or folders of which the newest is taken; default: both item views that ship here",
    )
    parser.add_argument("--vocabulary", type=Path, metavar="FILE", help="kinds of things and their words (YAML)")
    parser.add_argument("--kind", metavar="KIND", help="what the items are (film, book, ...) where no domain says so")


def positive(text: str) -> int:
    """A whole number from 1, for ``type=``."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def key_values(pairs: Sequence[str], option: str, example: str) -> dict[str, str]:
    """``KEY=VALUE`` texts as a mapping."""
    found = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise InputError(f"{option} {pair!r} is not KEY=VALUE", fix=f"for example: {option} {example}")
        found[key] = value
    return found
