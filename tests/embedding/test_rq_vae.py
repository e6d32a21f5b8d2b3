"""RQ-VAE: its loss against the formula, its gradients, revival, and what training is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semacdr.embedding.id_settings import IdSettings
from semacdr.embedding.residual import quantise
from semacdr.embedding.residual_kmeans import fit_residual_kmeans
from semacdr.embedding.rq_vae import RQVAE, fit_rq_vae, revive
from tests.embedding.clustered import clustered

SMALL = {"method": "rq-vae", "levels": 2, "codes": 8, "hidden_dims": [32], "code_dim": 4, "kmeans": "scikit-learn"}


def network(beta: float = 0.25) -> RQVAE:
    torch.manual_seed(0)
    made = RQVAE(6, [5], 3, beta)
    random = np.random.default_rng(0)
    made.set_codebooks([random.normal(size=(4, 3)).astype(np.float32) for _ in range(2)])
    return made


def test_loss_is_the_formula() -> None:
    made, x = network(), torch.randn(7, 6)
    loss, codes, residuals = made.loss(x)
    total = 0.0
    for row in x:
        z = made.encoder(row)
        rest, summed = z, torch.zeros(3)
        for book in made.codebooks:
            distance = [float(((rest - entry) ** 2).sum().detach()) for entry in book]
            entry = book[int(np.argmin(distance))]
            total += 1.25 * min(distance)
            rest, summed = rest - entry, summed + entry
        total += float(((row - made.decoder(summed)) ** 2).sum().detach())
    np.testing.assert_allclose(float(loss.detach()), total / 7, rtol=1e-5)
    with torch.no_grad():
        latent = made.encoder(x).numpy()
    expected, _ = quantise(latent, [book.detach().numpy() for book in made.codebooks])
    assert torch.stack(codes, dim=1).tolist() == expected.tolist()
    np.testing.assert_allclose(residuals[0], latent)


def test_gradients_go_where_the_stop_gradients_let_them() -> None:
    """The codebook moves to its residuals; the encoder gets the reconstruction's gradient as if nothing were between.

    With beta = 0 only the reconstruction reaches the encoder: its gradient is that of the decoder at z^.
    """
    made, x = network(0.0), torch.randn(9, 6)
    loss, codes, residuals = made.loss(x)
    loss.backward()
    for level, book in enumerate(made.codebooks):
        by_hand = torch.zeros_like(book)
        for row, code in enumerate(codes[level]):
            by_hand[code] += 2 * (book[code].detach() - residuals[level][row]) / len(x)
        np.testing.assert_allclose(book.grad, by_hand, atol=1e-6)
    z = made.encoder(x)
    quantised = sum(book[code] for book, code in zip(made.codebooks, codes)).detach().requires_grad_()
    (x - made.decoder(quantised)).square().sum(1).mean().backward()
    grads = torch.autograd.grad(z, list(made.encoder.parameters()), grad_outputs=quantised.grad)
    for parameter, grad in zip(made.encoder.parameters(), grads):
        np.testing.assert_allclose(parameter.grad, grad, atol=1e-6)


def test_commitment_pulls_the_encoder() -> None:
    x = torch.randn(9, 6)
    grads = []
    for beta in (0.0, 0.25):
        made = network(beta)
        made.loss(x)[0].backward()
        grads.append(made.encoder[0].weight.grad)
    assert not torch.allclose(*grads)


def test_dead_codes_are_put_on_residuals() -> None:
    book = torch.zeros(4, 2)
    used = torch.tensor([True, False, True, False])
    residual = torch.tensor([[5.0, 5.0], [6.0, 6.0]])
    assert revive([book], [used], [residual], torch.Generator().manual_seed(0)) == 2
    assert book[used].tolist() == [[0, 0], [0, 0]]
    assert all(entry in residual.tolist() for entry in book[~used].tolist())


@pytest.mark.parametrize("dead", [6, 8, 11])
def test_revived_codes_differ_as_long_as_the_batch_has_residuals(dead: int) -> None:
    book, residual = torch.zeros(dead, 1), torch.arange(1.0, 9)[:, None]
    revive([book], [torch.zeros(dead, dtype=torch.bool)], [residual], torch.Generator().manual_seed(0))
    assert len(book.unique()) == min(dead, 8)
    assert set(book.flatten().tolist()) <= set(residual.flatten().tolist())


def test_training_lowers_the_error_and_keeps_codes_alive() -> None:
    vectors = clustered(400, dim=12)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def error(steps: int) -> tuple[float, int]:
        made, books = fit_rq_vae(vectors, IdSettings(**SMALL, steps=steps, revive_every=20))
        codes, residual = quantise(made.encode(vectors), books)
        decoded = made.decode(made.encode(vectors) - residual)
        return float(np.square(vectors - decoded).sum() / np.square(vectors).sum()), len(np.unique(codes[:, 0]))

    (before, _), (after, alive) = error(1), error(400)
    assert after < 0.25 < before
    assert alive >= 7


def test_a_seed_gives_the_same_weights() -> None:
    vectors = clustered(200, dim=6)
    torch.manual_seed(7)
    (one, books), (two, again) = (fit_rq_vae(vectors, IdSettings(**SMALL, steps=20)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))
    assert all((a == b).all() for a, b in zip(books, again))
    other, _ = fit_rq_vae(vectors, IdSettings(**SMALL, steps=20, seed=1))
    assert not torch.equal(one.encoder[0].weight, other.encoder[0].weight)


def test_codebooks_begin_as_residual_kmeans_of_the_codes() -> None:
    vectors = clustered(200, dim=6)
    chosen = IdSettings(**SMALL, steps=1, learning_rate=1e-12)
    made, books = fit_rq_vae(vectors, chosen)
    expected = fit_residual_kmeans(made.encode(vectors), chosen)
    np.testing.assert_allclose(books[0], expected[0], atol=1e-4)
