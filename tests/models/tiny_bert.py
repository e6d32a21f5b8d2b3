"""A BERT of two layers and random weights, as a folder that transformers reads: small enough for every test."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = ("tea", "pans", "rugs", "pens", "number", "good", "bad", "fine", "poor", "very", "not", "the", "it", "is", "a")


def write_tiny_bert(folder: Path, width: int = 32, layers: int = 2, seed: int = 0) -> Path:
    """Writes the model and a word-level tokeniser, and returns the folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    characters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [str(digit) for digit in range(10)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *dict.fromkeys([*WORDS, *characters, *("##" + c for c in characters)])]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}).save_pretrained(str(folder))
    random = torch.random.get_rng_state()
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(str(folder))
    torch.random.set_rng_state(random)
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == width
    return folder
