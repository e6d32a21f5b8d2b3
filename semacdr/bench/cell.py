"""The process of one cell: ``python -m semacdr.bench.cell FOLDER`` trains and evaluates as cell.json there says.

The same commands as a user's do the work, so that a cell's run folder is like any other. The process ends with the
bench that started it, whose end of the pipe on its standard input closes even with kill -9.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semacdr.cli import main
from semacdr.evaluation.manifest import evaluated_protocols
from semacdr.files import read_json


def _end_with_the_bench() -> None:
    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="bench-watch", daemon=True).start()


def lacking(there: Mapping[str, Mapping[str, Any]], protocols: Sequence[str], coverage: Sequence[int]) -> list[str]:
    """Of the protocols those that are not there, or are without the coverage that is asked for of ``full``."""
    wanted = {f"coverage@{k}" for k in coverage}
    short = {"full"} if "full" in there and wanted - set(there["full"].get("coverage", ())) else set()
    return [protocol for protocol in protocols if protocol not in there or protocol in short]


def run_cell(folder: Path) -> int:
    """Trains what is not trained, ranks what is not ranked, and returns the exit code of the command that ended it."""
    cell = read_json(folder / "cell.json")
    code = main(["train", "--model", cell["model"], *cell["data"], "--config", cell["settings"], "--out", str(folder)])
    there = evaluated_protocols(folder, cell["on"])
    left = lacking(there, cell["protocols"], cell["coverage"])
    if code == 0 and left:
        words = ["--protocol", ",".join(left), "--split", cell["on"]]
        if "full" in left and cell["coverage"]:
            words += ["--coverage", ",".join(map(str, cell["coverage"]))]
        code = main(["evaluate", str(folder), *cell["data"], *words])
    return code


if __name__ == "__main__":
    _end_with_the_bench()
    sys.exit(run_cell(Path(sys.argv[1])))
