"""A pre-trained language model that turns texts into vectors and learns through low-rank matrices alone.

The model's own weights stay frozen and outside of checkpoints: LoRA (Hu et al. 2022, by peft) adds ``B A`` of rank r
to chosen linear layers, ``W x + (alpha / r) B A x``, and only A and B learn. B starts at zero, so a fresh encoder gives
the vectors of the pre-trained model.

Shapes: n texts, T tokens, d width of the language model.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from semacdr.data.schema import Int32Array, Int64Array
from semacdr.errors import InputError, MissingExtraError
from semacdr.files import file_sha256, read_json, staged_folder
from semacdr.local_models import EMBEDDED, embedded_encoder, named_model, no_progress_bars
from semacdr.progress import say

Pooling = Literal["mean", "cls"]

ATTENTION_AND_FFN = r".*\.(query|key|value|intermediate\.dense|(?<!attention\.)output\.dense)"
"""Query, key, value and both feed-forward matrices of a BERT-type layer, as peft's pattern of module names."""

ALL_LINEAR = "all-linear"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names
TEXTS_AT_ONCE = 10_000
TOKENS_AT_ONCE = 4_096
"""Padded tokens that one forward pass holds: on a CPU larger passes are no faster and take more memory."""


@dataclass(frozen=True)
class TokenTable:
    """Tokenised texts. Text ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``, special tokens included."""

    tokens: Int32Array  # (sum of lengths,)
    offsets: Int64Array  # (n + 1,)
    padding: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def length(self) -> Int64Array:
        """(n,) tokens of each text."""
        return np.diff(self.offsets)

    def batch(self, rows: Int64Array) -> tuple[Tensor, Tensor]:
        """(n, T) token ids and (n, T) mask, 1 where a token is, of the given texts."""
        length = self.length[rows]
        column = np.arange(max(1, int(length.max(initial=1))))
        inside = column < length[:, None]
        at = np.where(inside, self.offsets[rows][:, None] + column, 0)
        ids = np.where(inside, self.tokens[at], self.padding).astype(np.int64)
        return torch.from_numpy(ids), torch.from_numpy(inside.astype(np.int64))


class Backbone(nn.Module):
    """A frozen language model with one vector for each text; :meth:`add_lora` makes it learn.

    Args:
        name: ``embedded`` for the small encoder that ships as a package, a local folder, or a hub name.
        pooling: ``mean`` over a text's tokens, or ``cls``, the first token's state.
        max_tokens: longer texts are cut.

    Raises:
        InputError: no such model, or transformers cannot read it.
    """

    weights_hash: Tensor

    def __init__(self, name: str = EMBEDDED, pooling: Pooling = "mean", max_tokens: int = 128) -> None:
        super().__init__()
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError:
            raise MissingExtraError("transformers", "train") from None
        folder = embedded_encoder() if name == EMBEDDED else named_model(name)
        no_progress_bars()
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder.path), local_files_only=True)
            self.model: Any = AutoModel.from_pretrained(str(folder.path), dtype=torch.float32, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"not a model that transformers reads ({error})", where=folder.name) from None
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # never used: its weights would be dead
        self.name = folder.name
        self.model.requires_grad_(False)
        self.pooling = pooling
        limit = int(getattr(self.model.config, "max_position_embeddings", max_tokens))
        self.max_tokens = min(max_tokens, limit)
        self.width = int(self.model.config.hidden_size)
        # Kept with what was trained, so that it is never laid over another model's weights.
        digest = np.frombuffer(bytes.fromhex(folder.weights_sha256), np.uint8).copy()
        self.register_buffer("weights_hash", torch.from_numpy(digest))
        self.register_state_dict_post_hook(_drop_frozen)

    def tokenise(self, texts: Sequence[str]) -> TokenTable:
        """Token ids of texts, cut to ``max_tokens``."""
        flat, length = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        for first in range(0, len(texts), TEXTS_AT_ONCE):  # lists of numbers take ten times the room of arrays
            part = list(texts[first : first + TEXTS_AT_ONCE])
            rows = self.tokenizer(part, truncation=True, max_length=self.max_tokens)["input_ids"]
            flat.append(np.array([token for row in rows for token in row], np.int32))
            length.append(np.array([len(row) for row in rows], np.int64))
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(length))]).astype(np.int64)
        padding = self.tokenizer.pad_token_id
        return TokenTable(np.concatenate(flat), offsets, 0 if padding is None else int(padding))

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(n, T) token ids and mask -> (n, T, d) states of the last layer."""
        states: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return states

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """(n, T, d) -> (n, d) one vector for each text."""
        if self.pooling == "cls":
            return states[:, 0]
        weight = mask.unsqueeze(2).to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1).clamp(min=1)

    def forward(self, table: TokenTable, rows: Int64Array) -> Tensor:
        """Vectors of the given texts: (n, d).

        Texts of like length go through the model together, so little is padded.
        """
        device = self.weights_hash.device
        if not len(rows):
            return torch.zeros(0, self.width, device=device)
        order = np.argsort(table.length[rows], kind="stable")
        parts = []
        for part in _token_groups(table.length[rows][order]):
            ids, mask = (tensor.to(device) for tensor in table.batch(rows[order[part]]))
            parts.append(self.pool(self.states(ids, mask), mask))
        back = torch.from_numpy(np.argsort(order, kind="stable")).to(device)
        return torch.cat(parts)[back]

    def add_lora(
        self, rank: int, alpha: float | None = None, dropout: float = 0.0, targets: str | Sequence[str] | None = None
    ) -> None:
        """Adds fresh trainable matrices of rank r.

        Args:
            rank: r.
            alpha: the product is scaled by alpha / r; None for r, which is a scale of one.
            dropout: on the input of A.
            targets: names of the linear layers, as peft takes them; None for :data:`ATTENTION_AND_FFN` where the
                model has such layers, else all linear layers.
        """
        from peft import LoraConfig, get_peft_model

        if targets is None:
            names = [name for name, _ in self.model.named_modules()]
            targets = ATTENTION_AND_FFN if any(re.fullmatch(ATTENTION_AND_FFN, name) for name in names) else ALL_LINEAR
        config = LoraConfig(
            r=rank,
            lora_alpha=rank if alpha is None else alpha,
            lora_dropout=dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
        )
        try:
            with _peft_quiet():
                self.model = get_peft_model(self.model, config)
        except ValueError as error:
            raise InputError(f"no linear layer has such a name ({error})", where=f"lora targets {targets}") from None

    def add_frozen(self, plugin: Path) -> None:
        """Adds a saved adapter's product to the frozen weights: ``W + (alpha / r) B A`` takes the place of W.

        To be called before :meth:`add_lora`; again for each further adapter, whose products add up.

        Raises:
            InputError: not an adapter folder, or one of another model.
        """
        from peft import PeftModel

        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            if not (plugin / name).is_file():
                fix = "make one with: semacdr loid pretrain --out DIR ..."
                raise InputError(f"not an adapter folder (no {name})", where=str(plugin), fix=fix)
        base = read_json(plugin / ADAPTER_CONFIG).get("base_model_name_or_path")
        if base not in (None, self.name):
            say(f"{plugin}: an adapter of {base}, added to {self.name}")
        try:
            with _peft_quiet():
                self.model = PeftModel.from_pretrained(self.model, str(plugin)).merge_and_unload()
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"not an adapter of this model ({error})", where=str(plugin)) from None
        self.model.requires_grad_(False)
        digest = hashlib.sha256(self.weights_hash.cpu().numpy().tobytes())
        digest.update(file_sha256(plugin / ADAPTER_WEIGHTS).encode())
        self.weights_hash = torch.from_numpy(np.frombuffer(digest.digest(), np.uint8).copy())

    def save_lora(self, folder: Path) -> None:
        """Writes the trained matrices as a peft adapter folder: its two files, into a folder that may hold others."""
        self.model.peft_config["default"].base_model_name_or_path = self.name  # not where it lies on this machine
        with staged_folder(folder / ".adapter") as staging:
            self.model.save_pretrained(str(staging), save_embedding_layers=False)  # "auto" asks the hub
        for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
            os.replace(folder / ".adapter" / name, folder / name)
        shutil.rmtree(folder / ".adapter")


def load_trained(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Puts saved weights into a module that has a :class:`Backbone` inside: all but the frozen ones must be there.

    Raises:
        InputError: they were trained on another language model.
    """
    state = module.state_dict()
    for name in state:
        if (
            name.endswith("weights_hash")
            and name in tensors
            and not torch.equal(state[name].cpu(), tensors[name].cpu())
        ):
            fix = "give back the model and the adapters that it was trained with, or train again"
            raise InputError("trained over another language model, or other frozen adapters", fix=fix)
    missing, unexpected = module.load_state_dict(dict(tensors), strict=False)
    missing = [name for name in missing if name in state]
    if missing or unexpected:
        raise InputError(f"weights of another model (missing {missing[:3]}, unexpected {list(unexpected)[:3]})")


@contextlib.contextmanager
def _peft_quiet() -> Iterator[None]:
    """Without the warning that peft calls a method of transformers under a name that is to go."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


def _token_groups(length: Int64Array) -> list[slice]:
    """Cuts texts, ascending by length, into runs that hold at most :data:`TOKENS_AT_ONCE` tokens when padded."""
    groups, first = [], 0
    for index in range(len(length)):
        if index > first and (index + 1 - first) * int(length[index]) > TOKENS_AT_ONCE:
            groups.append(slice(first, index))
            first = index
    groups.append(slice(first, len(length)))
    return groups


def _drop_frozen(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Leaves a module's frozen parameters out of its state."""
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            state.pop(prefix + name, None)
