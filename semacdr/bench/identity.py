"""Which code the weights of a model depend on, as far as a fingerprint of cells takes account of it.

A model's file counts by what it says, so that whoever edits a model gets new numbers without thinking of it; so do the
files about models that it imports, and those that they import. What all models share (layers, losses, the trainer)
counts by the version of the run format alone: a change there that does not change weights must not cost a bench its
hours.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import semacdr
from semacdr.run import FORMAT_VERSION

MODELS = "semacdr.models."
SHARED = {MODELS + name for name in ("base", "layers", "losses", "rating", "registry", "settings", "softmax")}


@cache
def code_version(module: str) -> str:
    """The run format's version, and a hash of a model's code without comments, docstrings and layout."""
    trees = own_code(module)
    digest = hashlib.sha256()
    for name in sorted(trees):
        digest.update(ast.dump(without_docstrings(trees[name])).encode())
    return f"{FORMAT_VERSION}-{digest.hexdigest()[:16]}"


@cache
def own_code_version() -> str:
    """The same for RecBole's own models: RecBole's version, and a hash of what trains them.

    The files are read where they lie, since a package is imported when one of its modules is looked up.
    """
    folder = Path(semacdr.__file__).parent / "recbole"
    digest = hashlib.sha256()
    for name in ("own.py", "own_data.py", "own_model.py", "export.py"):
        tree = ast.parse((folder / name).read_text(encoding="utf-8"))
        digest.update(ast.dump(without_docstrings(tree)).encode())
    return f"{FORMAT_VERSION}-recbole-{version('recbole')}-{digest.hexdigest()[:16]}"


def own_code(module: str) -> dict[str, ast.Module]:
    """The modules that count as a model's, by name: its own, and what it imports about models that not all share."""
    trees: dict[str, ast.Module] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in trees:
            trees[name] = _tree(name)
            todo += [one for one in _imports(trees[name]) if one.startswith(MODELS) and one not in SHARED]
    return trees


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The same code without the texts that stand for themselves, in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    return tree


def _tree(module: str) -> ast.Module:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> list[str]:
    return [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
