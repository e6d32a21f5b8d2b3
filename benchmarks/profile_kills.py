"""kill -9 at random instants of profiling with the real vLLM engine, then the same command again until it is done.

Each run writes to one store; a log outside it counts every answer that the engine finished, kept or not. At the end
every item has its profile row, every answer stands in the store once, and no answer that was in the store after a kill
is lost or changed. Answers made twice are those that were finished but not yet kept at a kill; how many could have been
under way is bound by the batch and the group. Child processes of a killed run must go by themselves. Writes
profile_kills.json.

example: python benchmarks/profile_kills.py --work /somewhere/empty   (in the environment of make vllm-cpu)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from semacdr.cli import main as semacdr
from semacdr.data.item_rows import ItemRows
from semacdr.profiling.engines.base import Answer
from semacdr.profiling.engines.vllm import GROUP, VllmEngine
from semacdr.profiling.prompts import Vocabulary, load_prompts
from semacdr.profiling.run import RunOptions, profile_items
from semacdr.profiling.store import AnswerStore
from semacdr.resources import prompts_folder

RESULTS = Path(__file__).parent / "results"
BATCH = 32
PROMPT = prompts_folder() / "item" / "domain_specific" / "v1.j2"
GONE_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for data and store")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.work, args.items)
        return
    if not (args.work / "data" / "dataset.json").is_file():
        semacdr(["data", "convert", "--format", "movielens", "--output", str(args.work / "data")])
    for left in ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm", "finished.log", "kept.log"):
        (args.work / left).unlink(missing_ok=True)
    instants = random.Random(args.seed)
    kept: dict[str, Answer] = {}
    kills = []
    for number in range(args.kills):
        # An instant at random in its part of the work, and some milliseconds on, so that it may be within a write.
        part = args.items / (args.kills + 1)
        kills.append(kill(args, int(part * (number + instants.random())), instants.uniform(0, 2)))
        now = stored(args.work)
        assert kept.items() <= now.items(), "an answer that was kept is gone or changed"
        kills[-1] |= {"kept": len(now), "finished_in_all": finished(args.work)}
        kept = now
        print(kills[-1], file=sys.stderr, flush=True)
    done = start(args)
    assert done.wait() == 0
    now = stored(args.work)
    assert kept.items() <= now.items()
    with AnswerStore(args.work / "store.sqlite") as store:
        rows = [row for row in store.status() if row["view"] == "domain_specific"]
    report = {
        "command": " ".join(["python", *sys.argv]),
        "items": args.items,
        "kills": kills,
        "profiles": sum(row["items"] for row in rows),
        "profiles_by_kind": {row["kind"]: row["items"] for row in rows},
        "answers_kept": len(now),
        "answers_made": finished(args.work),
        "made_twice": finished(args.work) - len(now),
        "bound_per_kill": BATCH + GROUP,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "profile_kills.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))
    assert report["profiles"] == report["answers_kept"] == args.items
    assert 0 <= report["made_twice"] <= args.kills * (BATCH + GROUP)


def kill(args: argparse.Namespace, answers: int, seconds: float) -> dict[str, Any]:
    """Starts a run and kills it some time after so many answers are finished in all; its children must go, too."""
    child = start(args)
    while finished(args.work) < max(answers, 1):
        assert child.poll() is None, "the run ended before its kill"
        time.sleep(0.2)
    time.sleep(seconds)
    family = psutil.Process(child.pid).children(recursive=True)
    assert child.poll() is None, "the run ended before its kill"
    child.send_signal(signal.SIGKILL)
    child.wait()
    began = time.monotonic()
    _, alive = psutil.wait_procs(family, timeout=GONE_S)
    assert not alive, f"children outlived the kill: {alive}"
    return {"children": len(family), "children_gone_after_s": round(time.monotonic() - began, 1)}


def start(args: argparse.Namespace) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--worker", "--work", str(args.work), "--items", str(args.items)]
    return subprocess.Popen(command)


def work(folder: Path, items: int) -> None:
    """One run, which logs each answer that the engine has finished, before anything else is done with it."""
    engine = VllmEngine(batch_size=BATCH)
    core = engine.load().llm_engine
    step = core.step
    log = os.open(folder / "finished.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def counted() -> Any:
        outputs = step()
        os.write(log, b"." * len(outputs))
        return outputs

    core.step = counted
    with AnswerStore(folder / "store.sqlite") as store:
        # One attempt each, so that there is one answer an item.
        options = RunOptions(limit=items, attempts=1)
        profile_items(ItemRows(folder / "data"), engine, store, load_prompts([PROMPT]), Vocabulary.load(), options)
    core.engine_core.shutdown()


def finished(folder: Path) -> int:
    log = folder / "finished.log"
    return log.stat().st_size if log.is_file() else 0


def stored(folder: Path) -> dict[str, Answer]:
    with AnswerStore(folder / "store.sqlite") as store:
        return dict(store.all_answers())


if __name__ == "__main__":
    main()
