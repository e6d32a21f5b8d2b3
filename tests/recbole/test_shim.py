"""The shim adds what is missing, only when asked for, and takes away what was needed for a moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from semacdr.errors import InputError


def run(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_importing_semacdr_touches_nothing() -> None:
    run(
        "import numpy as np, sys\n"
        "before = set(vars(np))\n"
        "import semacdr, semacdr.cli, semacdr.models.registry\n"
        "assert set(vars(np)) == before\n"
        "assert not {'torch', 'recbole', 'ray', 'semacdr.recbole'} & set(sys.modules)\n"
    )


def test_shim_adds_only_what_is_missing() -> None:
    run(
        "import numpy as np, sys, torch\n"
        "np.float_ = mine = object()\n"
        "load, names = torch.load, set(vars(np))\n"
        "import semacdr.recbole\n"
        "assert np.float_ is mine\n"
        "new = {name for name in set(vars(np)) - names if not isinstance(vars(np)[name], type(sys))}\n"
        "assert new <= {'complex_', 'unicode_'}, new\n"
        "assert torch.load is load\n"
        "assert not torch.is_anomaly_enabled()\n"
        "ray = sys.modules.get('ray')\n"
        "assert ray is None or hasattr(ray, '__version__')\n"
        "import recbole.trainer.trainer as trainer\n"
        "assert trainer.torch.tensor is torch.tensor\n"
    )


def test_a_working_ray_is_left_in_place(tmp_path: Path) -> None:
    package = tmp_path / "ray"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = 'works'\n")
    (package / "tune.py").write_text("def report(**_): pass\n")
    run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import semacdr.recbole, ray\n"
        "assert ray.__version__ == 'works'\n"
        "from recbole.quick_start import quick_start\n"
        "assert quick_start.tune is ray.tune\n"
    )


def test_pandas_3_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from semacdr.recbole import shim

    monkeypatch.setattr(pd, "__version__", "3.0.1")
    with pytest.raises(InputError, match="pandas<3"):
        shim.apply()
