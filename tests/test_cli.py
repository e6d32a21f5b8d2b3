"""The command as a user runs it: light start, one message for wrong use, exit codes."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from semacdr.cli import COMMANDS, main

HEAVY = ("torch", "transformers", "sentence_transformers", "vllm", "recbole", "ray", "faiss", "pandas", "scipy")


def loaded_after(program: str) -> set[str]:
    code = f"import sys\n{program}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "program",
    [
        "import semacdr",
        "from semacdr.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from semacdr.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass",
        "from semacdr.cli import main\ntry: main(['data', 'convert', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_starting_loads_nothing_heavy(program: str) -> None:
    assert not loaded_after(program) & set(HEAVY)


def test_the_guard_above_can_fail() -> None:
    assert "pandas" in loaded_after("import pandas")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text.lower()
    assert f"semacdr {command}" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "did you mean 'train'"),
        (["train", "--model", "SemaCDR"], "required"),
        (["train", "--model", "SemaCRD", "--dataset", "no", "--out", "x"], "did you mean 'SemaCDR'"),
        (["train", "--model", "SASRec", "--dataset", "no", "--out", "x", "epocs=3"], "did you mean 'epochs'"),
        (["train", "--model", "SASRec", "--dataset", "no", "--out", "x", "epochs=-3"], "greater than or equal to 0"),
        (["train", "--model", "SASRec", "--dataset", "no", "--out", "x", "learning_rate=inf"], "finite number"),
        (["train", "--model", "SASRec", "--dataset", "no", "--out", "x", "epochs"], "not key=value"),
        (["train", "--model", "SASRec", "--dataset", "no", "--out", "x"], "not a data set folder"),
        (["train", "--model", "SASRec", "--dataset", "no", "--out", "x", "--config", "SASRec"], "no such config"),
        (["evaluate", "no-run"], "not a run folder"),
        (["recommend", "no-run", "--user", "1"], "not a run folder"),
        (["recommend", "no-run"], "--history ID,ID,... or --user ID"),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("semacdr.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not there
    assert main(["train", "--model", "SASRec", "--dataset", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    assert "pip install 'semacdr[train]'" in capsys.readouterr().err


def test_a_missing_module_of_ours_is_not_taken_for_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "semacdr.commands.doctor", None)
    with pytest.raises(ModuleNotFoundError):
        main(["doctor"])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out.parquet"), "out.parquet: No space left on device"),
        (OSError(errno.ESTALE, "Stale file handle"), "Stale file handle"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), "runs/x: Permission denied"),
        (OSError("Couldn't read\n the file"), "Couldn't read the file"),
        (sqlite3.OperationalError("database or disk is full"), "database or disk is full"),
    ],
)
def test_what_the_system_refuses_is_one_message_and_exit_code_1(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_: object) -> None:
        raise error

    monkeypatch.setattr("semacdr.commands.doctor.run", refused)
    assert main(["doctor"]) == 1
    fix = "  fix: what was finished is kept: when that is mended, the same command goes on"
    assert capsys.readouterr().err == f"semacdr: {said}\n{fix}\n"


def test_settings_may_stand_among_the_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "epochs=1", "--model", "SASRec", "--dataset", str(tmp_path), "dropout=.1", "--out", "x"]
    assert main(arguments) == 2
    assert "not a data set folder" in capsys.readouterr().err
