"""Loads faiss where it is installed; every part of the package that uses it comes through here.

Two distributions own the Python package ``faiss``, faiss-cpu and faiss-gpu: installed together, one overwrites files of
the other, so that pair is refused before anything is loaded.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from semacdr.errors import InputError

BUILDS = {"faiss-cpu": "ann", "faiss-gpu": "gpu", "faiss-gpu-cu11": None, "faiss-gpu-cu12": None}
"""Distribution that owns the package faiss -> the extra that brings it."""


def faiss_builds() -> list[str]:
    """The distributions of faiss that are installed; nothing is loaded."""
    found = []
    for name in BUILDS:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return found


def faiss_clash() -> str | None:
    """What is wrong if more than one distribution of faiss is installed, else None."""
    builds = faiss_builds()
    return f"{' and '.join(builds)}: all own the package faiss, keep one" if len(builds) > 1 else None


def load_faiss() -> Any:
    """The module, with as many threads as torch has.

    torch and faiss each bring an OpenMP library of their own; left alone, both take every core.

    Raises:
        InputError: faiss is missing, installed twice, or lacks a library that its build needs.
    """
    clash = faiss_clash()
    if clash:
        raise InputError(f"two builds of faiss clash: {clash}", fix="pip uninstall one of them, reinstall the other")
    try:
        import faiss
    except ImportError:
        raise InputError(
            "faiss is not installed", fix="pip install 'semacdr[ann]' or, for the GPU build, 'semacdr[gpu]', never both"
        ) from None
    except RuntimeError as error:  # a GPU build without its CUDA libraries
        raise InputError(f"faiss does not load ({error})", fix="pip install 'semacdr[ann]' in place of [gpu]") from None
    import torch

    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss
