"""Big tensors in huge pages, where the system has them on request."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")
NAME = "THP_MEM_ALLOC_ENABLE"
HUGE_KB = """
import semacdr, torch
tensor = torch.ones(64, 1 << 20)
print(sum(int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("AnonHugePages")))
"""


def printed(code: str, **environment: str) -> str:
    """What a fresh interpreter prints, without the setting but for what is given."""
    kept = {name: value for name, value in os.environ.items() if name != NAME}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env={**kept, **environment}, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_importing_asks_for_huge_pages_and_does_not_overrule() -> None:
    code = f"import os, semacdr; print(os.environ['{NAME}'])"
    assert printed(code) == "1"
    assert printed(code, **{NAME: "0"}) == "0"


@pytest.mark.skipif(
    not KERNEL.is_file() or "[madvise]" not in KERNEL.read_text(), reason="no huge pages here, or not on request"
)
def test_a_big_tensor_lies_in_huge_pages() -> None:
    asked, plain = int(printed(HUGE_KB)), int(printed(HUGE_KB, **{NAME: "0"}))
    assert asked > plain + 50_000  # of 262,144 kB: a machine without room gives a part
