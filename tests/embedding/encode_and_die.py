"""Encodes with the embedded model and kills itself at a given batch: ``DATASET OUT BATCH before|after``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from semacdr.data.dataset import Dataset
from semacdr.data.schema import FloatArray
from semacdr.embedding.build import build_table
from semacdr.embedding.encoder import SentenceEncoder


class Mortal(SentenceEncoder):
    number, when, calls = int(sys.argv[3]), sys.argv[4], 0

    def encode(self, texts: Sequence[str]) -> FloatArray:
        self.calls += 1
        if self.calls == self.number and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        vectors = super().encode(texts)
        if self.calls == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        return vectors


if __name__ == "__main__":
    build_table(Dataset.load(sys.argv[1]), Mortal(), Path(sys.argv[2]), batch_size=8)
