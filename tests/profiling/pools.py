"""Workers in this process that die and fail on demand, for tests only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from semacdr.errors import SemacdrError
from semacdr.profiling.distributed import Ended, Work, do_work
from semacdr.profiling.engines.base import Answer, Engine, ModelIdentity, Request, Sampling, answer_key


class DeathError(BaseException):
    """Stands for SIGKILL: nothing in the worker handles it."""


class SteadyEngine:
    """Answers depend on the key alone, and come two at a time, last ones first; ``hook`` runs before each answer."""

    name = "steady"
    structured = False

    def __init__(self, hook: Callable[[Request], None] = lambda _: None, chunk: int = 32, model: str = "m") -> None:
        self.identity = ModelIdentity(model, "1")
        self.hook, self.chunk = hook, chunk
        self.answered: list[str] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[dict[int, Answer]]:
        order = list(range(len(requests)))[::-1]
        for start in range(0, len(order), 2):
            group = {}
            for place in order[start : start + 2]:
                self.hook(requests[place])
                key = answer_key(requests[place], self.identity, sampling)
                self.answered.append(key)
                letters = "".join(chr(ord("a") + int(digit, 16)) for digit in key[:12])
                group[place] = Answer(f" calm thing named {letters} for people who have time.", "stop", 100, 10)
            yield group


class InProcessPool:
    """Does the work of one slot at a time, the one that has waited longest; a dead worker gets a new engine."""

    def __init__(self, makes: Sequence[Callable[[], Engine]]) -> None:
        self.makes, self.size = makes, len(makes)
        self.engines: dict[int, Engine] = {}
        self.waiting: deque[tuple[int, Work]] = deque()
        self.works: list[Work] = []
        self.made = [0] * self.size

    def start(self, slot: int, work: Work) -> None:
        if slot not in self.engines:
            self.engines[slot] = self.makes[slot]()
            self.made[slot] += 1
        assert slot not in [busy for busy, _ in self.waiting]
        self.waiting.append((slot, work))
        self.works.append(work)

    def wait(self) -> tuple[int, Ended | None]:
        slot, work = self.waiting.popleft()
        try:
            deque(do_work(self.engines[slot], work), maxlen=0)
        except DeathError:
            del self.engines[slot]
            return slot, Ended("its process died", died=True)
        except SemacdrError as error:
            del self.engines[slot]
            return slot, Ended(str(error))
        return slot, Ended()

    def close(self) -> None:
        self.engines.clear()
        self.waiting.clear()
