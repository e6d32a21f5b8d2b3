"""A small invented catalogue, and an engine that answers at once: for tests only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from semacdr.data.dataset import Dataset
from semacdr.files import fingerprint, write_json
from semacdr.profiling.engines.base import Answer, ModelIdentity, Request, Sampling, answer_key

FILMS = ["Harbour Lights", "The Glass Orchard", "Seven Quiet Miles", "Paper Foxes", "A Long Way Up", "Tin Moon"]
TOYS = ["Wooden Ark", "Kite Number Nine", "Marble Run Deluxe", "Puzzle of the Reef", "Pocket Owl"]


def write_dataset(folder: Path, copies: int = 1, edit: Callable[[list[dict[str, Any]]], Any] | None = None) -> Dataset:
    """``copies`` of the invented titles, numbered apart, in two domains; the last item has no text."""
    rows: list[dict[str, Any]] = []
    for copy in range(copies):
        for domain, titles in (("films", FILMS), ("toys and games", TOYS)):
            for number, title in enumerate(titles):
                mark = "" if copy == 0 else f" {'i' * copy}"
                rows.append(
                    {
                        "item_id": f"{domain[0]}{number}c{copy}",
                        "domain": domain,
                        "title": title + mark,
                        "genres": "Drama, Comedy" if domain == "films" else None,
                        "year": 1990.0 + number,
                    }
                )
    rows.append({"item_id": "bare", "domain": "films", "title": None, "genres": None, "year": 1999.0})
    if edit:
        edit(rows)
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(folder / "items.parquet")
    events = [
        {"user_id": f"u{user}", "item_id": rows[step]["item_id"], "domain": rows[step]["domain"]}
        | {"timestamp": step, "position": step}
        for user in range(2)
        for step in range(6)
    ]
    pd.DataFrame(events).to_parquet(folder / "interactions.parquet")
    manifest = {"format_version": 1, "name": "invented", "domains": ["films", "toys and games"], "order": "total"}
    write_json(
        folder / "dataset.json",
        {**manifest, "time_unit": "second", "counts": {}, "settings": {}, "fingerprint": fingerprint(rows)},
    )
    return Dataset.load(folder)


class FakeEngine:
    """Answers depend on the key and on the whole batch, as those of a real engine in bfloat16 do.

    ``bad`` share of first attempts come back cut off; a retry is always good.
    """

    name = "fake"
    structured = False

    def __init__(self, bad: float = 0.3, model: str = "fake-model", revision: str = "1", chunk: int = 4) -> None:
        self.chunk = chunk
        self.identity = ModelIdentity(model, revision)
        self.bad = bad
        self.calls = 0
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[dict[int, Answer]]:
        yield dict(enumerate(self.batch(requests, sampling)))

    def batch(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        self.calls += 1
        self.asked.extend(requests)
        keys = [answer_key(request, self.identity, sampling) for request in requests]
        mates = hashlib.sha256("".join(keys).encode()).hexdigest()
        answers = []
        for request, key in zip(requests, keys):
            letters = "".join(chr(ord("a") + int(digit, 16)) for digit in key[:6] + mates[:6])
            bad = request.attempt == 0 and int(key[:4], 16) / 0xFFFF < self.bad
            text = f" calm thing named {letters} for people who have time."
            answers.append(Answer(text[:12] if bad else text, "length" if bad else "stop", 100, 10))
        return answers
