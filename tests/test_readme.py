"""The Python lines of the README do what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_five_lines_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(import semacdr\n.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for line in block.splitlines() if line and not line.startswith("import")]
    assert len(lines) == 5
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(README), "exec"), {})
    metric, titles = capsys.readouterr().out.strip().splitlines()
    assert 0 < float(metric) < 1
    assert titles.count("'") >= 10
