"""The same SASRec, trained by semacdr, RecTools and RecBole: CPU seconds an epoch, peak memory, ranking quality.

    python benchmarks/side_by_side.py --setup
    python benchmarks/side_by_side.py --dataset DIR

Each contender trains on the same sequences (the training part of our split) with the same width, layers, heads, length
and loss (softmax over every item that occurs in training), in a process of its own with one thread; the order
alternates between repeats. Quality is that of the vectors that each exports after each epoch, ranked by our evaluator.

Every measurement is a file under RESULTS/side_by_side/; one that is there is not made again, so an interrupted run goes
on where it stopped. Delete a file to measure again, after a change of the code for example. ``--only``, ``--stage`` and
``--seeds`` add measurements; the report is made of all that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = ROOT / "benchmarks" / "contenders"
RECTOOLS_VENV = ROOT / ".venv-rectools"
SCRIPTS = {"ours": "ours.py", "rectools": "rectools_sasrec.py", "recbole": "recbole_sasrec.py"}
STEPS = {"ours": 0, "rectools": 8, "recbole": 3}
TRAINED = ("ours", "rectools")  # an epoch of RecBole's takes a quarter of an hour
# RecTools' defaults but for width and length; its inner network is as wide as the model.
MODEL = {
    "embedding_dim": 128,
    "num_layers": 2,
    "num_heads": 4,
    "ffn_dim": 128,
    "dropout": 0.2,
    "max_seq_len": 50,
    "batch_size": 128,
    "learning_rate": 1e-3,
}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help=f"make {RECTOOLS_VENV.name}, and stop")
    parser.add_argument("--dataset", type=Path, help="a semacdr data set folder")
    parser.add_argument("--only", default=",".join(SCRIPTS), help="contenders, comma-separated (default: %(default)s)")
    parser.add_argument("--stage", default="time,quality", help="time, quality or both (default: both)")
    parser.add_argument("--steps", type=int, help="steps measured of contenders whose epoch is extrapolated")
    parser.add_argument("--repeats", type=int, default=3, help="timings of each contender (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs trained for quality (default: %(default)s)")
    parser.add_argument(
        "--rectools-loss",
        default="shipped",
        choices=["shipped", "chunked"],
        help="chunked: for quality, RecTools' loss in chunks, several times cheaper (default: shipped)",
    )
    parser.add_argument("--seeds", default="0", help="training seeds, comma-separated (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "side_by_side", help="exchange files and vectors")
    args = parser.parse_args()
    if not args.setup and args.dataset is None:
        parser.error("--dataset DIR is needed, or --setup")
    for option, valid in (("only", set(SCRIPTS)), ("stage", {"time", "quality"})):
        names = getattr(args, option).split(",")
        if unknown := set(names) - valid:
            parser.error(f"--{option}: unknown {', '.join(sorted(unknown))}; valid: {', '.join(sorted(valid))}")
        setattr(args, option, names)
    args.seeds = [int(seed) for seed in args.seeds.split(",")]
    return args


def setup() -> None:
    """RecTools in an environment of its own, with the very torch that semacdr runs on."""
    if not RECTOOLS_VENV.exists():
        venv.create(RECTOOLS_VENV, with_pip=True)
    constraints = RECTOOLS_VENV / "constraints.txt"
    constraints.write_text(f"torch=={version('torch')}\n")
    pip = [str(python("rectools")), "-m", "pip", "install", "-c", str(constraints), "rectools[torch]==0.19.*"]
    subprocess.run(pip, check=True)


def python(contender: str) -> Path:
    """The interpreter that a contender runs in."""
    return RECTOOLS_VENV / "bin" / "python" if contender == "rectools" else Path(sys.executable)


def write_exchange(path: Path, dataset: Any, split: Any) -> None:
    """The training sequences and test histories as flat arrays, for contenders that know nothing of semacdr.

    A training sequence is a user of the contender's; event ``i`` is item ``train_item[i]`` of ``train_sequence[i]``, in
    order. Histories likewise.
    """
    from semacdr.evaluation.pairs import ranges

    sequence, at = ranges(split.train.start, split.train.stop)
    history, history_at = ranges(split.test.start, split.test.stop)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        train_sequence=sequence,
        train_item=split.train.items[at].astype(np.int64),
        history=history,
        history_item=split.test.items[history_at].astype(np.int64),
        num_histories=len(split.test),
        num_items=dataset.num_items,
    )


class Bench:
    """Makes measurements that are not there yet."""

    def __init__(self, args: argparse.Namespace) -> None:
        from semacdr.data.dataset import Dataset
        from semacdr.data.splits import make_split

        self.args = args
        self.dataset = Dataset.load(args.dataset)
        self.split = make_split(self.dataset)
        self.parts: Path = args.results / "side_by_side"
        self.parts.mkdir(parents=True, exist_ok=True)
        self.exchange = args.work / f"{self.dataset.fingerprint[:16]}.npz"
        write_exchange(self.exchange, self.dataset, self.split)

    def time(self) -> None:
        """All timings; every other repeat in the opposite order."""
        for repeat in range(self.args.repeats):
            for contender in self.args.only[:: 1 if repeat % 2 == 0 else -1]:
                name = f"{contender}-time-{repeat}"
                what = {"kind": "time", "seed": repeat, "steps": self.args.steps or STEPS[contender], "loss": "shipped"}
                part = self.parts / f"{name}.json"
                key = self.key(contender, what)
                if not (part.is_file() and json.loads(part.read_text())["job"] == key):
                    write_json(part, {"job": key, **self.run(contender, name, {**what, "epochs": 0})})

    def quality(self) -> None:
        """All trainings, and the ranking of what they exported after each epoch."""
        for seed in self.args.seeds:
            for contender in (name for name in self.args.only if name in TRAINED):
                loss = self.args.rectools_loss if contender == "rectools" else "shipped"
                name = f"{contender}-{'chunked-' if loss == 'chunked' else ''}train-{seed}"
                self.train(contender, name, {"kind": "train", "seed": seed, "steps": 0, "loss": loss})

    def train(self, contender: str, name: str, what: dict[str, Any]) -> None:
        """One training. Its epochs are kept as they end, so a run that was stopped counts for those it made."""
        part, key, wanted = self.parts / f"{name}.json", self.key(contender, what), self.args.epochs
        made = self.args.work / name / "result.json"
        kept = json.loads(part.read_text()) if part.is_file() else None
        if kept is not None and kept["job"] == key and len(kept["epochs"]) >= wanted:
            return
        result = json.loads(made.read_text()) if made.is_file() else None
        if result is None or result["job"] != key or len(result["epochs"]) < wanted:
            made.unlink(missing_ok=True)
            result = self.run(contender, name, {**what, "epochs": wanted})
        from ranking import scores

        for epoch in result["epochs"]:
            epoch["scores"] = scores(self.dataset, self.split.test, made.parent / f"epoch{epoch['epoch']}")
        write_json(part, {**result, "job": key})

    def key(self, contender: str, what: dict[str, Any]) -> dict[str, Any]:
        """What a measurement depends on; one that differs in it is made again."""
        return {"contender": contender, "dataset_fingerprint": self.dataset.fingerprint, **what, "model": MODEL}

    def run(self, contender: str, name: str, what: dict[str, Any]) -> dict[str, Any]:
        """Runs a contender's process."""
        folder = self.args.work / name
        folder.mkdir(parents=True, exist_ok=True)
        out = folder / "result.json"
        paths = {"dataset": self.args.dataset, "data": self.exchange, "vectors": folder, "out": out}
        key = self.key(contender, {name: value for name, value in what.items() if name != "epochs"})
        job = {**what, "model": MODEL, "key": key, **{name: str(path.resolve()) for name, path in paths.items()}}
        (folder / "job.json").write_text(json.dumps(job))
        load = os.getloadavg()
        print(f"{name} ...", file=sys.stderr, flush=True)
        threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
        command = [str(python(contender)), str(CONTENDERS / SCRIPTS[contender]), str(folder / "job.json")]
        subprocess.run(command, check=True, env={**os.environ, **threads})
        result = {**json.loads(out.read_text()), "load_average": {"before": load, "after": os.getloadavg()}}
        print(f"{name}: {result['cpu_s_per_epoch']:.1f} CPU s an epoch ({result['measured']})", file=sys.stderr)
        return result


def write_json(path: Path, value: Any) -> None:
    """Writes JSON; whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def machine() -> dict[str, Any]:
    """The class of machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.system(),
    }


def _command() -> str:
    """How this was called; folders by their names alone, since a result says nothing about where they lie."""
    words = [Path(word).name if word.startswith(("/", ".")) else word for word in sys.argv[1:]]
    return shlex.join(["python", "benchmarks/side_by_side.py", *words])


def main() -> None:
    args = parse()
    if args.setup:
        setup()
        return
    missing = [name for name in args.only if not python(name).exists()]
    if missing:
        raise SystemExit(f"{', '.join(missing)}: no {RECTOOLS_VENV.name}; make it with --setup")
    bench = Bench(args)
    for stage in args.stage:
        getattr(bench, stage)()
    from report import report

    header = {
        "command": _command(),
        "dataset": {"name": bench.dataset.name, "fingerprint": bench.dataset.fingerprint},
        "machine": machine(),
        "model": {**MODEL, "loss": "softmax over all items of the training part", "threads": 1},
    }
    print(report(args.results, header, args.work, bench.split.test.user))


if __name__ == "__main__":
    main()
