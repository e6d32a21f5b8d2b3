"""How alike the reviews of two domains are, and what a plug-in of the one brought to the other (LoID, table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semacdr.data.dataset import Dataset
from semacdr.data.ratings import reviews_frame
from semacdr.data.schema import TEXT, Float64Array
from semacdr.embedding.encoder import TextEncoder
from semacdr.errors import InputError
from semacdr.evaluation.ratings import RATING
from semacdr.files import read_json
from semacdr.run import read_run

REVIEWS = 100
MIN_REVIEWS = 10


@dataclass(frozen=True)
class Gain:
    """What plug-ins brought to a target domain, the mean over the runs of the same sources."""

    target: str
    sources: tuple[str, ...]
    similarity: tuple[float | None, ...]  # of each source; None where it has too few reviews
    mse: float
    gain: float  # 1 - mse / mse without plug-ins
    runs: int

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def similarity_table(
    dataset: Dataset, encoder: TextEncoder, reviews: int = REVIEWS, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Cosine of the mean vectors of ``reviews`` random reviews of each domain.

    Domains with fewer than :data:`MIN_REVIEWS` reviews are left out.

    Raises:
        InputError: the data set has no reviews.
    """
    means: dict[str, Float64Array] = {}
    for number, domain in enumerate(dataset.domains):
        frame, _ = reviews_frame(dataset, domain)
        texts = sorted({text for text in frame[TEXT] if text})
        if len(texts) < MIN_REVIEWS:
            continue
        chosen = np.random.default_rng([seed, number]).permutation(len(texts))[:reviews]
        vectors = encoder.encode([texts[index] for index in chosen]).astype(np.float64)
        mean = vectors.mean(axis=0)
        means[domain] = mean / np.linalg.norm(mean)
    return {a: {b: round(float(means[a] @ means[b]), 4) for b in means} for a in means}


def gains(runs: Sequence[Path], similarity: dict[str, dict[str, float]]) -> list[Gain]:
    """What plug-ins brought, from evaluated LoID runs with and without them; seeds of the same sources are averaged.

    Raises:
        InputError: a run that is none of LoID's, or not evaluated, or a target without a run that has no plug-in.
    """
    found: dict[tuple[str, tuple[str, ...]], list[float]] = {}
    for run in runs:
        manifest = read_run(run)
        if "domain" not in manifest["training"] or "plugins" not in manifest["config"]:
            raise InputError("not a rating run of LoID", where=str(run))
        metrics = read_json(run / "metrics.json") if (run / "metrics.json").is_file() else {}
        if RATING not in metrics:
            raise InputError("not evaluated yet", where=str(run), fix=f"semacdr evaluate {run}")
        sources = tuple(read_run(Path(plugin))["training"]["domain"] for plugin in manifest["config"]["plugins"])
        found.setdefault((manifest["training"]["domain"], sources), []).append(metrics[RATING]["all"]["mse"])
    rows = []
    for (target, sources), errors in sorted(found.items()):
        if not sources:
            continue
        plain = found.get((target, ()))
        if plain is None:
            raise InputError(f"no run without plug-ins for {target}, so no gain can be told")
        alike = tuple(similarity.get(target, {}).get(source) for source in sources)
        mse = float(np.mean(errors))
        rows.append(Gain(target, sources, alike, mse, 1 - mse / float(np.mean(plain)), len(errors)))
    return rows
