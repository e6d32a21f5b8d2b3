"""Arguments that several actions of ``semacdr profile`` share."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semacdr.errors import InputError

if TYPE_CHECKING:
    from semacdr.profiling.engines.base import Engine


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


def engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Which engine, which model, and what only some engines need."""
    parser.add_argument(
        "--engine",
        default="transformers",
        metavar="E",
        help="vllm, openai (any server of that interface; key: OPENAI_API_KEY), transformers (default), recorded",
    )
    parser.add_argument(
        "--model",
        metavar="M",
        help="vllm, transformers: a local folder or a hub name, which is downloaded; default: the small embedded "
        "model. openai: what the server calls it, where it serves several. "
        "recorded: a record file, a store, a folder of shards, or the name of a record that ships here (ml-100k)",
    )
    parser.add_argument(
        "--batch-size", type=positive, metavar="N", help="prompts decoded together (default: the engine's)"
    )
    parser.add_argument(
        "--base-url",
        nargs="+",
        metavar="URL",
        help="openai: the server, http://HOST:PORT/v1; or OPENAI_BASE_URL. Several, of one model, with --distributed",
    )
    parser.add_argument(
        "--concurrency", type=positive, default=16, metavar="N", help="openai: requests under way at once (default 16)"
    )
    parser.add_argument(
        "--tensor-parallel", type=positive, default=1, metavar="N", help="vllm: GPUs that the model is spread over"
    )
    parser.add_argument(
        "--stall-s",
        type=positive,
        default=600,
        metavar="S",
        help="end with exit code 1 when the engine has not answered for S seconds, loading included (default 600)",
    )


def attempt_arguments(parser: argparse.ArgumentParser) -> None:
    """How often the engine is asked, within one run and from run to run."""
    parser.add_argument("--attempts", type=positive, default=3, metavar="N", help="tries per question (default 3)")
    parser.add_argument(
        "--retry-failed", action="store_true", help="ask again what the engine gave up on in an earlier run"
    )


def engine_recipes(args: argparse.Namespace) -> list[Callable[[], Engine]]:
    """Make the engine that the arguments name, one for each server; they can be sent to other processes."""
    from semacdr.profiling.engines import EngineOptions, make_engine

    recipes: list[Callable[[], Engine]] = []
    for url in args.base_url or [None]:
        options = EngineOptions(url, args.concurrency, args.tensor_parallel, args.stall_s)
        recipes.append(functools.partial(make_engine, args.engine, args.model, args.batch_size, options))
    return recipes


def positive(text: str) -> int:
    """A whole number from 1, for ``type=``."""
    if not text.isdecimal() or int(text) < 1:
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
