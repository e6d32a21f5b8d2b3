"""kill -9 at random instants in profiling, embedding and training, then the same command again: equal hashes.

Each step runs once unbroken and once killed ``--kills`` times, on ml-100k with the embedded models, by the command as a
user types it. An instant is a random time after the process has first written something. One kill
of the training waits for a checkpoint that is being written. Writes kill_resume.json.

example: OMP_NUM_THREADS=1 python benchmarks/kill_resume.py --work /somewhere/empty
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from semacdr.embedding.table import EmbeddingTable
from semacdr.files import file_sha256, fingerprint
from semacdr.profiling.store import AnswerStore

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Step:
    """A command and the hash of what it leaves."""

    name: str
    arguments: Callable[[Path], list[str]]
    digest: Callable[[Path], str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for data and runs")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--items", type=int, default=96, help="films that are profiled live")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    data, record, profiles = args.work / "data", args.work / "record.sqlite", args.work / "profiles.parquet"
    if not profiles.is_file():
        run("data", "convert", "--format", "movielens", "--output", str(data))
        replay = ("--engine", "recorded", "--model", "ml-100k", "--store", str(record))
        run("profile", "items", "--dataset", str(data), *replay)
        run("profile", "export", "--dataset", str(data), "--store", str(record), "--out", str(profiles))
    live = ["profile", "items", "--dataset", str(data), "--engine", "transformers", "--limit", str(args.items)]
    table = args.work / "embed-whole" / "out"
    training = ["train", "--model", "SemaCDR", "--dataset", str(data), "--embeddings", str(table)]
    settings = ["--config", "demo/SemaCDR.yaml", f"epochs={args.epochs}", "checkpoint_s=0.5"]
    steps = [
        Step("profile", lambda out: [*live, "--store", str(out / "store.sqlite")], answers),
        Step(
            "embed",
            lambda out: ["embed", "--dataset", str(data), "--profiles", str(profiles), "--out", str(out / "out")],
            tables,
        ),
        Step(
            "train",
            lambda out: [*training, *settings, "--out", str(out / "run")],
            lambda out: file_sha256(out / "run" / "model.safetensors"),
        ),
    ]
    instants = random.Random(args.seed)
    report = {"command": " ".join(["python", *sys.argv]), "steps": [try_step(s, args, instants) for s in steps]}
    (args.out / "kill_resume.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    sys.exit(0 if all(step["equal"] for step in report["steps"]) else 1)


def try_step(step: Step, args: argparse.Namespace, instants: random.Random) -> dict[str, object]:
    """One unbroken run and one that is killed time and again."""
    whole, broken = args.work / f"{step.name}-whole", args.work / f"{step.name}-broken"
    shutil.rmtree(broken, ignore_errors=True)
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    broken.mkdir(parents=True)
    took = run(*step.arguments(whole))
    kills: list[dict[str, object]] = []
    while len(kills) < args.kills:
        in_write = step.name == "train" and len(kills) == args.kills - 1
        child = start(*step.arguments(broken))
        began, at_start = time.monotonic(), newest(broken)
        while newest(broken) == at_start and child.poll() is None:  # until it has written something
            time.sleep(0.01)
        if in_write:  # a temporary sibling stands for as long as a checkpoint is being written
            while not list((broken / "run").glob(".checkpoint*")) and child.poll() is None:
                time.sleep(0.0002)
        else:
            time.sleep(instants.uniform(0, 0.6) * took / args.kills)
        half = [path.name for path in broken.rglob(".*.tmp")]
        if child.poll() is not None:
            raise SystemExit(f"{step.name} ended before its kill {len(kills) + 1}: too little work for so many")
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills.append({"after_s": round(time.monotonic() - began, 2), "half_written": half})
        print(step.name, kills[-1], file=sys.stderr, flush=True)
    run(*step.arguments(broken))
    hashes = step.digest(whole), step.digest(broken)
    return {
        "step": step.name,
        "unbroken_s": round(took, 1),
        "kills": kills,
        "sha256_unbroken": hashes[0],
        "sha256_killed": hashes[1],
        "equal": hashes[0] == hashes[1],
    }


def newest(folder: Path) -> int:
    """When anything in a folder was last written, in nanoseconds."""
    times = [0]
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.stat().st_mtime_ns)
    return max(times)


def start(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "semacdr", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run(*arguments: str) -> float:
    """Runs a command to its end; seconds it took."""
    began = time.monotonic()
    if start(*arguments).wait():
        raise SystemExit(f"failed: semacdr {' '.join(arguments)}")
    return time.monotonic() - began


def answers(out: Path) -> str:
    with AnswerStore(out / "store.sqlite", create=False) as store:
        return fingerprint([store.digest(), store.valid_profiles("ml-100k")])


def tables(out: Path) -> str:
    folder = out / "out"
    views = EmbeddingTable.load(folder).views
    return fingerprint([(view, file_sha256(folder / f"{view}.npy")) for view in views])


if __name__ == "__main__":
    main()
