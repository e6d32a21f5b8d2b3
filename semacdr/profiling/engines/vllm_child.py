"""What runs inside vLLM's own processes: they end when the process that wanted them is gone.

vLLM loads this as a plugin (``vllm.general_plugins``) in each of its processes. Without it an engine whose owner was
killed lives on and keeps its memory, a GPU's for one, so that the same command could not start again.
"""

from __future__ import annotations

import os
import threading
import time

from semacdr.files import process_runs

OWNER = "SEMACDR_VLLM_OWNER"
_EVERY_S = 1.0


def stay_with_owner() -> None:
    """Watches the parent process, where this process was started for our engine; other uses of vLLM are left alone."""
    owner = os.environ.get(OWNER, "")
    if owner.isdigit() and int(owner) != os.getpid():
        threading.Thread(target=_watch, args=(int(owner), os.getppid()), name="owner-watch", daemon=True).start()


def _watch(owner: int, parent: int) -> None:
    # A worker's parent is vLLM's core, whose parent is the owner: each follows its own, and the owner first of all.
    while os.getppid() == parent and process_runs(owner):
        time.sleep(_EVERY_S)
    os._exit(1)
