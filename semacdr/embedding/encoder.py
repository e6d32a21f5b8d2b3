"""Texts to vectors with a sentence-transformers model, batch by batch, resumable to the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from semacdr.data.schema import FloatArray
from semacdr.errors import InputError, MissingExtraError
from semacdr.files import fingerprint, read_json, write_json
from semacdr.local_models import EMBEDDED, ModelFolder, embedded_encoder, named_model, no_progress_bars
from semacdr.progress import Progress, say

DEFAULT_BATCH_SIZE = 64


class TextEncoder(Protocol):
    """What the embedding step needs of an encoder."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the vectors depend on: name, revision, weights hash."""
        ...

    @property
    def text_dim(self) -> int:
        """E."""
        ...

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(len(texts), E) float32 vectors of one batch."""
        ...


class SentenceEncoder:
    """A sentence-transformers model: the embedded one, a local folder, or a hub name.

    The weights are read at the first text, so that asking for the identity costs a hash only.
    """

    def __init__(self, name: str = EMBEDDED, device: str | None = None) -> None:
        self.folder: ModelFolder = embedded_encoder() if name == EMBEDDED else named_model(name)
        self.device = device
        self._model: Any = None

    @property
    def identity(self) -> dict[str, Any]:
        """Name, revision and weights hash."""
        return {
            "name": self.folder.name,
            "revision": self.folder.revision,
            "weights_sha256": self.folder.weights_sha256,
        }

    @property
    def model(self) -> Any:
        """The loaded model; nothing is fetched from the network."""
        if self._model is None:
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError:
                raise MissingExtraError("sentence-transformers", "train") from None
            no_progress_bars()
            try:
                self._model = SentenceTransformer(str(self.folder.path), device=self.device, local_files_only=True)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"not a model that sentence-transformers reads ({error})", where=self.folder.name
                ) from None
        return self._model

    @property
    def text_dim(self) -> int:
        """E, the length of a vector."""
        return int(self.model.get_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(len(texts), E) float32 vectors of the texts, encoded as one batch in the order given."""
        vectors = self.model.encode(
            list(texts), batch_size=max(1, len(texts)), convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)


def plan_batches(texts: Sequence[str], batch_size: int) -> list[list[int]]:
    """Indices of ``texts`` in batches of like length, longest first: little is padded, and memory peaks early."""
    order = sorted(range(len(texts)), key=lambda index: (-len(texts[index]), texts[index]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def encode_resumable(encoder: TextEncoder, texts: Sequence[str], work: Path, batch_size: int) -> FloatArray:
    """Encodes distinct texts; finished batches are kept in ``work`` and an interrupted call goes on after them.

    The batches are planned from the full list and an unfinished one is redone whole: what a batch holds changes the
    last bits of its vectors, so only thus does a resumed run equal an unbroken one.

    Args:
        encoder: the encoder.
        texts: distinct texts.
        work: a scratch folder; the caller removes it once the result is safe. One of another plan is emptied first.
        batch_size: texts per batch.

    Returns:
        (len(texts), E) float32, memory-mapped from the scratch folder.
    """
    plan = fingerprint({"encoder": encoder.identity, "texts": list(texts), "batch_size": batch_size})
    state_file, vectors_file = work / "state.json", work / "vectors.npy"
    state = read_json(state_file) if state_file.is_file() else {}
    if state.get("plan") == plan:
        vectors = np.load(vectors_file, mmap_mode="r+", allow_pickle=False)
    else:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        vectors = np.lib.format.open_memmap(
            vectors_file, mode="w+", dtype=np.float32, shape=(len(texts), encoder.text_dim)
        )
        state = {"plan": plan, "batches": 0}
        write_json(state_file, state)
    batches = plan_batches(texts, batch_size)
    finished = int(state["batches"])
    done = sum(len(batch) for batch in batches[:finished])
    if finished:
        say(f"going on after {finished} finished batches of {len(batches)}")
    progress = Progress(len(texts), "encoding", "texts", done=done)
    for number, batch in enumerate(batches[finished:], start=finished + 1):
        vectors[batch] = encoder.encode([texts[index] for index in batch])
        vectors.flush()  # the rows are on disk before the count says so
        write_json(state_file, {"plan": plan, "batches": number})
        progress.update(len(batch))
    progress.close()
    return vectors
