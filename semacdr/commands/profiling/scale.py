"""Arguments that spread a profiling run over workers, and the engine that they make."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semacdr.commands.profiling.common import positive
from semacdr.errors import InputError
from semacdr.files import check_writable, fingerprint

if TYPE_CHECKING:
    from semacdr.profiling.engines.base import Engine

_DEFAULT_WORKERS = 2


def scale_arguments(parser: argparse.ArgumentParser) -> None:
    """How many workers, what each has, and where finished shards are."""
    parser.add_argument("--distributed", choices=["ray"], help="spread the calls over Ray workers ($RAY_ADDRESS)")
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="with --distributed; default: one a server, and at least 2"
    )
    parser.add_argument(
        "--gpus-per-worker", type=_share, metavar="G", help="with --distributed: GPUs that each worker has to itself"
    )
    parser.add_argument(
        "--shards",
        type=Path,
        metavar="DIR",
        help="finished shards: those found are taken without a call, also ones made on another machine; "
        "with --distributed workers write theirs here (default: beside the store)",
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1024 or (value > 1 and value != int(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number from 1 nor a share of one GPU")
    return value


@contextlib.contextmanager
def scaled_engine(args: argparse.Namespace, makes: Sequence[Callable[[], Engine]]) -> Iterator[Engine]:
    """The engine of a run: the first recipe's, or workers that have the recipes in turn, behind shards that are there.

    Args:
        args: with those of :func:`scale_arguments`, ``--engine`` and ``--store``.
        makes: recipes of one engine; several where they call different servers.

    Raises:
        InputError: arguments that do not go together, or no such folder of shards.
    """
    from semacdr.profiling.distributed import DistributedEngine
    from semacdr.profiling.engines.guard import GuardedEngine
    from semacdr.profiling.ray_pool import RayPool
    from semacdr.profiling.shards import ShardsFirst

    shards = _shard_folder(args, len(makes))
    engine = makes[0]()
    pool = None
    if args.distributed:
        if engine.name == "recorded":
            raise InputError("a record has nothing to spread", fix="leave --distributed out")
        workers = args.workers or max(_DEFAULT_WORKERS, len(makes))
        pool = RayPool([makes[slot % len(makes)] for slot in range(workers)], args.gpus_per_worker or 0)
        # The workers' own guards see engines that hang; this one sees whatever else does, Ray among it.
        engine = GuardedEngine(DistributedEngine(engine, pool, shards or Path()), args.stall_s)
    try:
        yield engine if shards is None else ShardsFirst(engine, shards, _index_file(args, shards))
    finally:
        if pool is not None:
            pool.close()


def _index_file(args: argparse.Namespace, shards: Path) -> Path | None:
    """Beside the store, and of this folder alone: what others read of a folder is nothing that we know."""
    if args.store is None or getattr(args, "no_cache", False):
        return None
    store: Path = args.store
    return store.with_name(f"{store.name}.shards-{fingerprint(str(shards.resolve()))[:12]}.index")


def _shard_folder(args: argparse.Namespace, servers: int) -> Path | None:
    shards: Path | None = args.shards
    if not args.distributed:
        if servers > 1:
            raise InputError(
                "several servers are called by several workers", fix="--distributed ray, or one --base-url"
            )
        if args.workers or args.gpus_per_worker:
            raise InputError("--workers and --gpus-per-worker go with --distributed", fix="--distributed ray")
        if shards is not None and not shards.is_dir():
            raise InputError("no such folder of shards", where=str(shards))
    elif shards is None:
        if args.store is None:
            raise InputError("workers hand their answers over in files", fix="--shards DIR, or --store FILE")
        shards = args.store.with_name(f"{args.store.name}.shards")
    if args.distributed and shards is not None:
        check_writable(shards / "a shard")
    return shards
