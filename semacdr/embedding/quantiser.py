"""From vectors to codes and back: preparation, an encoder where there is one, codebooks. Kept as safetensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from semacdr.data.schema import FloatArray, Int32Array
from semacdr.embedding.id_input import Preparation, fit_preparation
from semacdr.embedding.id_settings import IdSettings
from semacdr.embedding.residual import quantise, reconstruct
from semacdr.embedding.residual_kmeans import fit_residual_kmeans

if TYPE_CHECKING:
    from semacdr.embedding.rq_vae import RQVAE


@dataclass(frozen=True)
class Quantiser:
    """What turns vectors into codes.

    Attributes:
        prepare: joined vectors (n, E) to what is quantised or encoded, (n, P).
        codebooks: M, (K_m, C) each; C is P for residual k-means.
        network: the autoencoder of RQ-VAE; None for residual k-means.
    """

    prepare: Preparation
    codebooks: list[FloatArray]
    network: RQVAE | None = None

    def latent(self, vectors: FloatArray) -> FloatArray:
        """(n, E) joined vectors -> (n, C) what the codebooks quantise."""
        prepared = self.prepare(vectors)
        return prepared if self.network is None else self.network.encode(prepared)

    def codes(self, vectors: FloatArray) -> Int32Array:
        """(n, E) joined vectors -> (n, M) nearest codes."""
        return quantise(self.latent(vectors), self.codebooks)[0]

    def decode(self, codes: Int32Array) -> FloatArray:
        """(n, m) codes of the first m levels -> (n, P) prepared vectors that they stand for."""
        latent = reconstruct(codes, self.codebooks)
        return latent if self.network is None else self.network.decode(latent)

    def tensors(self) -> dict[str, FloatArray]:
        """Everything that is kept, by name."""
        out = {f"codebook_{level}": np.ascontiguousarray(book) for level, book in enumerate(self.codebooks)}
        if self.prepare.mean is not None and self.prepare.axes is not None:
            out |= {"mean": self.prepare.mean, "axes": np.ascontiguousarray(self.prepare.axes)}
        if self.network is not None:
            state = self.network.state_dict()
            out |= {f"network.{name}": state[name].numpy() for name in state if not name.startswith("codebooks.")}
        return out


def fit_quantiser(vectors: FloatArray, widths: Sequence[int], settings: IdSettings) -> Quantiser:
    """Fits preparation and codebooks to (n, E) joined vectors; zero rows, items without text, are left out.

    Raises:
        InputError: no vector at all, or vectors that are not numbers.
    """
    prepare = fit_preparation(vectors, widths, settings)
    prepared = prepare(vectors)[vectors.any(axis=1)]
    if settings.method == "rq-kmeans":
        return Quantiser(prepare, fit_residual_kmeans(prepared, settings))
    from semacdr.embedding.rq_vae import fit_rq_vae

    network, codebooks = fit_rq_vae(prepared, settings)
    return Quantiser(prepare, codebooks, network)


def quantiser_from(tensors: Mapping[str, FloatArray], widths: Sequence[int], settings: IdSettings) -> Quantiser:
    """The quantiser that :meth:`Quantiser.tensors` gave; KeyError or RuntimeError for tensors of another."""
    prepare = Preparation(tuple(widths), settings.normalise, tensors.get("mean"), tensors.get("axes"))
    codebooks = [tensors[f"codebook_{level}"] for level in range(settings.levels)]
    if settings.method == "rq-kmeans":
        return Quantiser(prepare, codebooks)
    import torch

    from semacdr.embedding.rq_vae import RQVAE

    width = sum(widths) if prepare.axes is None else prepare.axes.shape[1]
    network = RQVAE(width, settings.hidden_dims, settings.code_dim, settings.commitment)
    mark = "network."
    network.load_state_dict(
        {name.removeprefix(mark): torch.from_numpy(value) for name, value in tensors.items() if name.startswith(mark)}
    )
    network.set_codebooks(codebooks)
    return Quantiser(prepare, codebooks, network.eval())
