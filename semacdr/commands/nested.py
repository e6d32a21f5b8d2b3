"""What commands with subcommands of their own (``data``, ``profile``) share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

Actions = Callable[[str, str], argparse.ArgumentParser]
"""Adds a subcommand, given its name and summary."""


def actions_of(parser: argparse.ArgumentParser, examples: Mapping[str, str]) -> Actions:
    """A function that adds one subcommand, given its name and summary; its help ends with its example."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        made = actions.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=examples[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # Without a default of its own it leaves a --quiet before the action as it is.
        made.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress on stderr")
        return made

    return action


def print_json(value: Any) -> None:
    """JSON alone on stdout."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
