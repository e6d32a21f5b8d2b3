"""Runs every model of a config on every data set, several seeds, and keeps a leaderboard.

One process a cell (a data set, a model, a seed), each cell a run folder; a bench that was killed goes on with the same
command, and after a change of the config only what it changes is run. leaderboard.json, leaderboard.md and
comparisons.json (paired tests, Holm-corrected) are written anew after every cell, report.html at the end. A failed cell
is a row with its error, and the rest goes on; --retry-failed tries it again. Paths in the config are relative to its
data_root. --record keeps the small results of finished cells, without weights and ids, and the trials of tuning, and
takes from there what is done.

For example:
  semacdr bench bench/quick.yaml --dry-run
  semacdr bench bench/food-kitchen.yaml --data-root raw --out runs/food-kitchen --only SASRec,Markov
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``semacdr bench``."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file, yours or a shipped one (bench/*.yaml)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the bench folder (default: runs/bench/NAME)")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="in place of the config's data_root")
    parser.add_argument(
        "--only", metavar="MODEL,...", help="run these models or labels only; the leaderboard shows all"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="cells at once (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="print what is done and what is left, and do nothing")
    parser.add_argument("--retry-failed", action="store_true", help="run cells once more that failed")
    parser.add_argument(
        "--keep-old-code", action="store_true", help="results of a model whose code has changed since still count"
    )
    parser.add_argument(
        "--record", type=Path, metavar="DIR", help="keep cells and trials here too, and take from here what is done"
    )
    parser.add_argument("--json", action="store_true", help="cells and rows as JSON, alone on stdout")


def run(args: argparse.Namespace) -> None:
    """Runs ``semacdr bench``."""
    from semacdr.bench.bench import MARKDOWN, Bench, check_failures
    from semacdr.bench.config import read_config
    from semacdr.bench.record import Record
    from semacdr.bench.runner import Runner
    from semacdr.commands.nested import print_json
    from semacdr.errors import InputError
    from semacdr.report.report import REPORT, write_report
    from semacdr.report.subject import bench_subject

    if args.jobs < 1:
        raise InputError(f"--jobs {args.jobs}: at least 1")
    config = read_config(args.config)
    out = args.out or Path("runs") / "bench" / config.name
    bench = Bench(config, out, args.config, args.data_root, args.keep_old_code)
    lines = bench.chosen_lines(args.only)
    record = Record(args.record, out) if args.record else None
    if args.dry_run:
        bench.look()
        if args.json:
            print_json({"out": str(out), "cells": bench.cell_list()})
        else:
            print(bench.plan(record))
            if record:
                left = [cell for line in lines for cell in bench.cells(line) if cell.state() != "done"]
                print(f"{sum(record.holds(cell) for cell in left)} of them stand in the record")
        return
    Runner(bench, lines, args.jobs, args.retry_failed, record).run()
    write_report(bench_subject(out), out / REPORT)
    cells = bench.cell_list()
    if args.json:
        print_json({"out": str(out), "cells": cells, "rows": bench.results()[0]})
    else:
        print((out / MARKDOWN).read_text(encoding="utf-8"))
    check_failures(cells, out)
