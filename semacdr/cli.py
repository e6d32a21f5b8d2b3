"""The ``semacdr`` command: finds the subcommand, runs it, turns errors into one message and an exit code.

A subcommand is a module in ``semacdr.commands`` with ``add_arguments(parser)`` and ``run(args)``; only the one that is
asked for is imported, so that ``semacdr --help`` stays fast.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from semacdr import __version__
from semacdr.errors import InputError, MissingExtraError, SemacdrError, nearest
from semacdr.progress import set_quiet

COMMANDS = {
    "demo": "the whole path on embedded data and models, in minutes",
    "data": "list, fetch, convert or describe data sets",
    "profile": "item descriptions by a language model",
    "embed": "text vectors of items, one table a view",
    "ids": "semantic ids: items as short code sequences",
    "train": "train a model into a run folder",
    "evaluate": "metrics of a run",
    "bench": "every model of a config on every data set, and a leaderboard",
    "compare": "paired tests between runs",
    "index": "a run's item vectors for fast top-k search",
    "recommend": "the top items for a user or a history",
    "report": "a page of pictures on a bench or on runs",
    "loid": "LoRA plug-ins of LoID: pre-training, likeness of domains",
    "doctor": "what is installed, and what each extra would add",
}
# module that a command imports -> the extra that brings it
EXTRA_OF = {
    **dict.fromkeys(
        ("torch", "safetensors", "transformers", "sentence_transformers", "peft", "gguf", "sklearn"), "train"
    ),
    "recbole": "recbole",
    "optuna": "tune",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are :class:`InputError`: exit code 2 and one message."""

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage and exiting."""
        # The message is printed behind "semacdr: ", so the command's own name is left out.
        raise InputError(message, where=self.prog.partition(" ")[2] or None, fix=f"{self.prog} --help")


def _top_parser() -> Parser:
    lines = "\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())
    parser = Parser(
        prog="semacdr",
        description="Cross-domain sequential recommendation from item meaning.",
        epilog=f"commands:\n{lines}\n\nexample: semacdr demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"semacdr {__version__}")
    parser.add_argument("command", metavar="COMMAND", help="one of the commands below; each has its own --help")
    return parser


def _run(argv: Sequence[str]) -> int:
    top = _top_parser()
    if not argv or argv[0].startswith("-"):
        top.parse_args(argv)
    name = argv[0]
    if name not in COMMANDS:
        raise InputError(f"unknown command {name!r}", fix=nearest(name, COMMANDS))
    module = import_module(f"semacdr.commands.{name}")
    parser = Parser(
        prog=f"semacdr {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    module.add_arguments(parser)
    # key=value pairs may stand anywhere among the options; argparse allows that only without nested subcommands
    nested = any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
    args = parser.parse_args(argv[1:]) if nested else parser.parse_intermixed_args(argv[1:])
    set_quiet(args.quiet)
    return int(module.run(args) or 0)


def _failure(error: Exception) -> SemacdrError:
    """What the system or the scratch database refused, as one message."""
    where, what = getattr(error, "filename", None), getattr(error, "strerror", None)
    return SemacdrError(
        " ".join(str(what or error or type(error).__name__).split()),
        where=None if where is None else str(where),
        fix="what was finished is kept: when that is mended, the same command goes on",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 2 wrong use or bad input, 1 anything else."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except SemacdrError as error:
        print(f"semacdr: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF:
            raise
        missing = MissingExtraError(package, EXTRA_OF[package])
        print(f"semacdr: {missing}", file=sys.stderr)
        return missing.exit_code
    except KeyboardInterrupt:
        print("semacdr: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output, a pager say, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, sqlite3.OperationalError) as error:  # a full disk, a folder that is gone or must not be written to
        failure = _failure(error)
        print(f"semacdr: {failure}", file=sys.stderr)
        return failure.exit_code


if __name__ == "__main__":
    sys.exit(main())
