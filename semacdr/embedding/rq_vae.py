"""RQ-VAE: an autoencoder whose code is quantised level by level (TIGER, arXiv 2305.05065, section 3.1).

    z = enc(x);  r_0 = z;  c_m = argmin_k ||r_{m-1} - e_k^m||^2;  r_m = r_{m-1} - e_{c_m};  z^ = sum_m e_{c_m}
    loss = ||x - dec(z + sg[z^ - z])||^2 + sum_m ( ||sg[r_{m-1}] - e_{c_m}||^2 + beta ||r_{m-1} - sg[e_{c_m}]||^2 )

The codebooks begin as residual k-means of the untrained encoder's output; entries that nothing uses are revived.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from semacdr.data.schema import FloatArray
from semacdr.embedding.id_settings import IdSettings
from semacdr.embedding.residual_kmeans import fit_residual_kmeans
from semacdr.progress import Progress

_BLOCK = 8192
_SETTLED = 0.75  # of the steps: afterwards no entry is revived, so that all of them can settle


class RQVAE(nn.Module):
    """Encoder, decoder and the codebooks between them.

    Args:
        width: E, columns of a vector.
        hidden_dims: widths of the encoder's inner layers; the decoder has them the other way round.
        code_dim: C.
        commitment: beta.
    """

    def __init__(self, width: int, hidden_dims: Sequence[int], code_dim: int, commitment: float = 0.25) -> None:
        super().__init__()
        widths = [width, *hidden_dims, code_dim]
        self.encoder, self.decoder = _mlp(widths), _mlp(widths[::-1])
        self.commitment = commitment
        self.codebooks = nn.ParameterList()

    def set_codebooks(self, codebooks: Sequence[FloatArray]) -> None:
        """Takes M codebooks (K_m, C) as parameters."""
        self.codebooks = nn.ParameterList(nn.Parameter(torch.from_numpy(np.array(book))) for book in codebooks)

    def loss(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The loss of a batch.

        Args:
            x: (B, E).

        Returns:
            the mean over the batch, and for each level (B,) codes and (B, C) residuals before that level.
        """
        z = self.encoder(x)
        residual, total = z, torch.zeros_like(z)
        quantisation = z.new_zeros(())
        codes, residuals = [], []
        for book in self.codebooks:
            code = torch.cdist(residual.detach(), book.detach()).argmin(dim=1)
            entry = book[code]
            residuals.append(residual.detach())
            codes.append(code)
            to_entry = (residual.detach() - entry).square().sum(1).mean()
            to_code = (residual - entry.detach()).square().sum(1).mean()
            quantisation = quantisation + to_entry + self.commitment * to_code
            total = total + entry.detach()
            residual = residual - entry.detach()
        decoded = self.decoder(z + (total - z).detach())
        return (x - decoded).square().sum(1).mean() + quantisation, codes, residuals

    def encode(self, vectors: FloatArray) -> FloatArray:
        """(n, E) -> (n, C) codes z, not quantised."""
        return self._blocks(self.encoder, vectors)

    def decode(self, codes: FloatArray) -> FloatArray:
        """(n, C) -> (n, E)."""
        return self._blocks(self.decoder, codes)

    def _blocks(self, part: nn.Module, rows: FloatArray) -> FloatArray:
        width = next(module for module in reversed(list(part.modules())) if isinstance(module, nn.Linear)).out_features
        out = np.empty((len(rows), width), np.float32)
        with torch.no_grad():
            for start in range(0, len(rows), _BLOCK):
                block = torch.from_numpy(np.ascontiguousarray(rows[start : start + _BLOCK], dtype=np.float32))
                out[start : start + _BLOCK] = part(block).numpy()
        return out


def _mlp(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for at, (before, after) in enumerate(pairwise(widths)):
        layers += [nn.ReLU()] * (at > 0) + [nn.Linear(before, after)]
    return nn.Sequential(*layers)


def fit_rq_vae(vectors: FloatArray, settings: IdSettings) -> tuple[RQVAE, list[FloatArray]]:
    """Trains the autoencoder; the same vectors, settings and number of threads give the same weights.

    Args:
        vectors: (n, E), n >= 1.
        settings: of the method.

    Returns:
        The network in evaluation mode and its codebooks, (K_m, C) each.
    """
    random = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = RQVAE(vectors.shape[1], settings.hidden_dims, settings.code_dim, settings.commitment)
    network.set_codebooks(fit_residual_kmeans(network.encode(vectors), settings))
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate)
    used = [torch.zeros(len(book), dtype=torch.bool) for book in network.codebooks]
    progress = Progress(settings.steps, "RQ-VAE", "steps")
    for step in range(1, settings.steps + 1):
        rows = torch.randint(len(vectors), (min(settings.batch_size, len(vectors)),), generator=random)
        loss, codes, residuals = network.loss(torch.from_numpy(vectors[rows.numpy()]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for level, code in enumerate(codes):
            used[level][code] = True
        if step % settings.revive_every == 0:
            if step <= _SETTLED * settings.steps:
                revive(network.codebooks, used, residuals, random)
            used = [torch.zeros_like(there) for there in used]
        progress.update(1, f"loss {float(loss.detach()):.4f}")
    progress.close(f"loss {float(loss.detach()):.4f}")
    network.eval()
    return network, [book.detach().numpy().copy() for book in network.codebooks]


def revive(
    codebooks: Iterable[Tensor], used: Sequence[Tensor], residuals: Sequence[Tensor], random: torch.Generator
) -> int:
    """Puts unused entries on random residuals of the batch, different ones as long as there are; returns how many.

    Args:
        codebooks: M, (K_m, C) each; changed in place.
        used: for each level (K_m,), False for entries to revive.
        residuals: for each level (B, C).
        random: draws the residuals.
    """
    count = 0
    with torch.no_grad():
        for book, there, residual in zip(codebooks, used, residuals):
            dead = (~there).nonzero().squeeze(1)
            count += len(dead)
            if len(dead):
                drawn = torch.randperm(len(residual), generator=random)[: len(dead)]
                more = torch.randint(len(residual), (len(dead) - len(drawn),), generator=random)
                book[dead] = residual[torch.cat([drawn, more])]
    return count
