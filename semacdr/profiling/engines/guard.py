"""What stands between a run and its engine: an engine that dies or hangs ends the run with one message, exit code 1.

What was finished is in the store by then, and the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence

from semacdr.errors import SemacdrError
from semacdr.profiling.engines.base import Answer, Engine, Request, Sampling

_GRACE_S = 10.0
_GOES_ON = "what was finished is kept: the same command goes on from there"


class GuardedEngine:
    """An engine under guard: its death is a :class:`SemacdrError`, its silence ends the process.

    Args:
        engine: the engine proper.
        stall_s: the process ends when no answer has come for so many seconds; loading the model counts.
    """

    def __init__(self, engine: Engine, stall_s: float) -> None:
        self.engine, self.stall_s = engine, stall_s
        self.name, self.identity = engine.name, engine.identity
        self.structured, self.chunk = engine.structured, engine.chunk

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Mapping[int, Answer]]:
        """The engine's answers.

        Raises:
            SemacdrError: the engine died.
        """
        groups = iter(self.engine.generate(requests, sampling))
        while True:
            # The clock runs while the engine works, not while the answers are stored.
            with _ends_process_after(self.stall_s, self.name):
                try:
                    group = next(groups)
                except StopIteration:
                    return
                except (SemacdrError, ModuleNotFoundError):  # the command has a message for the latter
                    raise
                except Exception as error:
                    reason = " ".join(str(error).split())[:300]
                    raise SemacdrError(
                        f"the {self.name} engine died ({type(error).__name__}: {reason})", fix=_GOES_ON
                    ) from error
            if group:  # an empty one only says that the engine is at work
                yield group


@contextlib.contextmanager
def _ends_process_after(seconds: float, name: str) -> Iterator[None]:
    """Ends the process unless the body is done in time.

    A hanging engine cannot be interrupted, only left. A thread says so and leaves; where the engine hangs in C code
    that lets no other thread run, faulthandler's own thread, which needs no interpreter, leaves a little later and
    prints where it hung.
    """
    timer = threading.Timer(seconds, _leave, (seconds, name))
    timer.daemon = True
    timer.start()
    faulthandler.dump_traceback_later(seconds + _GRACE_S, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        timer.cancel()


def _leave(seconds: float, name: str) -> None:
    for child in multiprocessing.active_children():  # vLLM's engine is one; it may be what hangs
        child.kill()
    error = SemacdrError(
        f"the {name} engine has not answered for {seconds:g} s", fix=f"{_GOES_ON}; --stall-s allows for more"
    )
    print(f"semacdr: {error}", file=sys.stderr, flush=True)
    os._exit(error.exit_code)
