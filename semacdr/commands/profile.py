"""Item descriptions by a language model, generated again only where something changed.

Answers are kept in a store under the hash of what was asked (rendered prompt, model and revision, sampling, attempt).
Each item gets a domain-specific description and one without the words of its domain; an answer that breaks the prompt's
contract is retried, and then counted as invalid with a named reason.

For example:
  semacdr profile items --dataset data/films --engine transformers --store films.sqlite
  semacdr profile export --dataset data/films --store films.sqlite --out films-profiles.parquet
"""

from __future__ import annotations

import argparse

from semacdr.commands.nested import actions_of
from semacdr.commands.profiling import (
    diff,
    export,
    gc,
    import_answers,
    items,
    lint,
    record,
    show,
    status,
    users,
)

_ACTIONS = {
    "items": items,
    "users": users,
    "status": status,
    "export": export,
    "show": show,
    "record": record,
    "import": import_answers,
    "lint": lint,
    "diff": diff,
    "gc": gc,
}
_EXAMPLES = {
    "items": "examples:\n"
    "  semacdr profile items --dataset data/films --engine transformers --store films.sqlite\n"
    "  semacdr profile items --dataset data/films --engine vllm --model FOLDER_OR_HUB_NAME --store films.sqlite\n"
    "  semacdr profile items --dataset data/films --engine openai --base-url http://HOST:8000/v1 --store films.sqlite\n"
    "  semacdr profile items --dataset data/films --engine recorded --model ml-100k --store films.sqlite\n"
    "  semacdr profile items --dataset data/films --engine transformers --limit 4 --no-cache --compare ml-100k\n"
    "  semacdr profile items --dataset data/films --engine transformers --store films.sqlite --distributed ray",
    "users": "example: semacdr profile users --dataset data/films --embeddings table --store films.sqlite --dry-run",
    "status": "example: semacdr profile status --store films.sqlite --json",
    "export": "example: semacdr profile export --dataset data/films --store films.sqlite --out films-profiles.parquet",
    "show": "examples:\n"
    "  semacdr profile show 42 --dataset data/films --store films.sqlite\n"
    "  semacdr profile show --user 7 --dataset data/films --store films.sqlite --embeddings table",
    "import": "example: semacdr profile import --dataset data/shop --store shop.sqlite --input answers.jsonl.gz "
    "--view attributes --model some-large-model --note source=...",
    "lint": "examples:\n  semacdr profile lint\n  semacdr profile lint my-prompts/item --json",
    "diff": "examples:\n"
    "  semacdr profile diff prompts/item/domain_specific/v1.j2 my/v2.j2 --dataset D --store films.sqlite --out d.html\n"
    "  semacdr profile diff model-a model-b --dataset data/films --store films.sqlite --out diff.html\n"
    "  semacdr profile diff old.sqlite new.sqlite --dataset data/films --json",
    "gc": "example: semacdr profile gc --store films.sqlite --dry-run",
    "record": "example: semacdr profile record --store films.sqlite --out films.jsonl.gz --note licence=Apache-2.0",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands."""
    action = actions_of(parser, _EXAMPLES)
    for module in _ACTIONS.values():
        module.add(action)


def run(args: argparse.Namespace) -> int | None:
    """Runs one action."""
    return _ACTIONS[args.action].run(args)
