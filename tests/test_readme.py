"""The commands and Python lines of the README do what they say."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from semacdr.cli import COMMANDS, main

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
    assert (tmp_path / "runs" / "titles" / "metrics.json").is_file()


def commands_in(text: str) -> list[str]:
    """The command lines of a text, without what stands behind two spaces."""
    return [
        re.split(r"\s{2,}", found)[0] for found in re.findall(r"^\W*(?:examples?: )?(semacdr [a-z].*)$", text, re.M)
    ]


def texts_with_commands() -> list[str]:
    helps = [f"{import_module(f'semacdr.commands.{name}').__doc__}" for name in COMMANDS]
    epilogs = [
        text
        for name in ("data", "profile")
        for text in vars(import_module(f"semacdr.commands.{name}"))["_EXAMPLES"].values()
    ]
    return [README.read_text(encoding="utf-8"), *helps, *epilogs]


@pytest.mark.parametrize("line", [line for text in texts_with_commands() for line in commands_in(text)])
def test_every_command_that_is_shown_is_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line)[1:]
    monkeypatch.setattr(import_module(f"semacdr.commands.{words[0]}"), "run", lambda args: 0)
    assert main(words) == 0


def test_all_commands_are_found() -> None:
    shown = [line.split()[1] for text in texts_with_commands() for line in commands_in(text)]
    assert set(shown) == set(COMMANDS)
    assert len(shown) > 20
