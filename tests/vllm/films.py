"""Real films (MovieLens 100k, from the recbole package, which is only looked into) and what the tests do with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from semacdr.data.item_rows import ItemRows
from semacdr.profiling.engines.base import Engine
from semacdr.profiling.prompts import Prompt, Vocabulary, load_prompts
from semacdr.profiling.run import RunOptions, profile_items
from semacdr.profiling.store import AnswerStore
from semacdr.resources import prompts_folder

FILMS = 24
VIEWS = ("domain_specific", "domain_agnostic")


def profile(
    rows: ItemRows, engine: Engine, store: AnswerStore, prompts: list[Prompt], limit: int = FILMS
) -> dict[str, Any]:
    return profile_items(rows, engine, store, prompts, Vocabulary.load(), RunOptions(limit=limit))


def edited(folder: Path, view: str) -> list[Prompt]:
    """Copies of the newest prompts, one of them with a sentence more."""
    shutil.copytree(prompts_folder(), folder)
    paths = [folder / "item" / name for name in VIEWS]
    newest = {prompt.view: prompt.path for prompt in load_prompts(paths, structured=True)}
    text = newest[view].read_text(encoding="utf-8")
    newest[view].write_text(text.rstrip() + " Be plain.\n", encoding="utf-8")
    return load_prompts(paths, structured=True)


def check_films(rows: ItemRows, engine: Engine, folder: Path) -> None:
    """24 films in both views: all accounted for; again without a call; one template edited: that view's calls."""
    prompts = load_prompts(structured=True)
    assert all(prompt.front.structured for prompt in prompts)
    with AnswerStore(folder / "films.sqlite") as store:
        first = profile(rows, engine, store, prompts)
        for view, counts in first["views"].items():
            kinds = ", ".join(f"{number} {kind}" for kind, number in counts["invalid_kinds"].items())
            print(
                f"\n{engine.name}, {view}: {counts['valid']} of {counts['planned']} valid "
                f"({counts['valid_share']:.0%}); invalid: {kinds or 'none'}; {counts['generated']} answers",
                flush=True,
            )
            assert (counts["planned"], counts["missing"]) == (FILMS, 0)
            assert counts["valid"] + sum(counts["invalid_kinds"].values()) == FILMS
            assert counts["valid"] > 0
        kept = dict(store.all_answers())
        assert len(kept) == first["generated"]
        again = profile(rows, engine, store, prompts)
        assert again["generated"] == 0
        assert again["valid"] == first["valid"]
        changed = profile(rows, engine, store, edited(folder / "prompts", "domain_agnostic"))
        assert changed["views"]["domain_specific"]["generated"] == 0
        fresh = changed["views"]["domain_agnostic"]
        assert fresh["generated"] - fresh["retried"] == FILMS
        assert kept.items() <= dict(store.all_answers()).items()
