"""The trainable text encoder: pooling, low-rank products by hand, what learns and what is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from semacdr.errors import InputError
from semacdr.models.text_encoder import Backbone, load_trained
from tests.models.tiny_bert import write_tiny_bert

TEXTS = ["tea is good", "pans", "the rugs is very very bad not fine", "it works"]
QUERY = "encoder.layer.0.attention.self.query"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert"))


def vectors(backbone: Backbone, texts: list[str] = TEXTS) -> Tensor:
    return backbone(backbone.tokenise(texts), np.arange(len(texts)))


def shake(backbone: Backbone, seed: int) -> None:
    """Gives B, which starts at zero, and A values of their own."""
    torch.manual_seed(seed)
    for name, parameter in backbone.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_text_has_the_vector_that_it_has_alone(tiny: Path, pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone(str(tiny), pooling).eval()  # type: ignore[arg-type]
    together = vectors(backbone)
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([backbone.tokenizer(text)["input_ids"]])
        states = backbone.model(input_ids=ids).last_hidden_state[0]
        expected = states[0] if pooling == "cls" else states.mean(0)
        torch.testing.assert_close(together[row], expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr("semacdr.models.text_encoder.TOKENS_AT_ONCE", 8)  # several passes, in another order
    torch.testing.assert_close(vectors(backbone), together, rtol=1e-4, atol=1e-5)


def test_long_texts_are_cut(tiny: Path) -> None:
    backbone = Backbone(str(tiny), max_tokens=4)
    assert backbone.tokenise(TEXTS).length.tolist() == [4, 3, 4, 4]
    assert Backbone(str(tiny), max_tokens=10_000).max_tokens == 64
    assert len(vectors(backbone, [])) == 0


def test_a_fresh_lora_changes_nothing_and_alone_learns(tiny: Path) -> None:
    backbone = Backbone(str(tiny)).eval()
    before = vectors(backbone)
    assert not any(p.requires_grad for p in backbone.parameters())
    backbone.add_lora(3)
    backbone.eval()
    torch.testing.assert_close(vectors(backbone), before)
    vectors(backbone).square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
        assert (parameter.grad is not None) == parameter.requires_grad
    layers = {name.split(".lora_")[0].split("layer.")[1] for name, _ in backbone.named_parameters() if "lora_A" in name}
    parts = ("attention.self.query", "attention.self.key", "attention.self.value", "intermediate.dense", "output.dense")
    assert layers == {f"{layer}.{part}" for layer in (0, 1) for part in parts}


def test_frozen_products_of_several_sources_add_up(tiny: Path, tmp_path: Path) -> None:
    """W x + sum_s c_s B_s A_s x + c_t B_t A_t x, by hand, in the first query matrix."""
    plain = Backbone(str(tiny))
    weight = plain.model.get_submodule(QUERY).weight.detach().clone()
    bias = plain.model.get_submodule(QUERY).bias.detach().clone()
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    expected = x @ weight.T + bias
    for number, (rank, alpha) in enumerate([(3, None), (2, 4.0)]):
        source = Backbone(str(tiny))
        source.add_lora(rank, alpha)
        shake(source, number)
        module = source.model.get_submodule(f"base_model.model.{QUERY}")
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        expected = expected + (alpha or rank) / rank * (x @ a.T) @ b.T
        source.save_lora(tmp_path / f"s{number}")
    target = Backbone(str(tiny))
    target.add_frozen(tmp_path / "s0")
    target.add_frozen(tmp_path / "s1")
    target.add_lora(4)
    shake(target, 7)
    module = target.model.get_submodule(f"base_model.model.{QUERY}").eval()
    a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
    expected = expected + (x @ a.T) @ b.T
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)
    assert {n.split(".lora_")[1][0] for n, p in target.named_parameters() if p.requires_grad} == {"A", "B"}


def test_a_saved_adapter_gives_the_same_vectors(tiny: Path, tmp_path: Path) -> None:
    source = Backbone(str(tiny))
    source.add_lora(3)
    shake(source, 3)
    source.save_lora(tmp_path / "plugin")
    again = Backbone(str(tiny))
    again.add_frozen(tmp_path / "plugin")
    torch.testing.assert_close(vectors(again.eval()), vectors(source.eval()), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="not an adapter folder"):
        again.add_frozen(tmp_path)


def test_the_state_holds_what_learns_and_refuses_another_model(tiny: Path, tmp_path: Path) -> None:
    class Model(nn.Module):
        def __init__(self, folder: Path) -> None:
            super().__init__()
            self.backbone = Backbone(str(folder))
            self.backbone.add_lora(2)
            self.head = nn.Linear(32, 1)

    model = Model(tiny)
    shake(model.backbone, 5)
    state = model.state_dict()
    assert all("lora_" in name or name.startswith("head.") or name == "backbone.weights_hash" for name in state)
    again = Model(tiny)
    load_trained(again, state)
    torch.testing.assert_close(vectors(again.backbone.eval()), vectors(model.backbone.eval()))
    with pytest.raises(InputError, match="weights of another model"):
        load_trained(again, {name: value for name, value in state.items() if name != "head.bias"})
    other = write_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="another language model"):
        load_trained(Model(other), state)


def test_names_that_no_layer_has_are_refused(tiny: Path) -> None:
    with pytest.raises(InputError, match="no linear layer"):
        Backbone(str(tiny)).add_lora(2, targets=["nothing"])
    with pytest.raises(InputError):
        Backbone("./no/such/folder")
