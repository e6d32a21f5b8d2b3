"""``semacdr profile import``: answers that were made elsewhere, as a profile view."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from semacdr.commands.nested import Actions, print_json
from semacdr.commands.profiling.common import key_values
from semacdr.errors import InputError
from semacdr.progress import say


def add(action: Actions) -> None:
    """Adds its arguments."""
    taken = action("import", "take in a file of model outputs made elsewhere, as a profile view")
    taken.add_argument("--dataset", required=True, type=Path, metavar="DIR", help="a data set folder")
    taken.add_argument("--store", required=True, type=Path, metavar="FILE", help="where answers are kept")
    taken.add_argument(
        "--input", required=True, type=Path, metavar="FILE", help="JSON lines, plain or .gz: a row an item"
    )
    taken.add_argument("--view", required=True, metavar="NAME", help="the view that the answers make up")
    taken.add_argument("--model", required=True, metavar="NAME", help="who answered")
    taken.add_argument("--revision", default="unknown", metavar="R", help="of the model")
    taken.add_argument("--id-field", metavar="F", help="field of the item id (default: item_id, asin, id, idx, ...)")
    taken.add_argument(
        "--answer-field",
        metavar="F",
        help="field of the answer (default: response, answer, output, text, ...); a dotted name goes into nested "
        "values: response.body.choices.0.message.content",
    )
    taken.add_argument(
        "--form",
        choices=("text", "object", "list"),
        help="what an answer is: a text, or JSON that may stand among other text (default: what most first rows are)",
    )
    taken.add_argument("--prompt", metavar="LABEL", help="what was asked, for the record (default: that of --prompts)")
    taken.add_argument(
        "--prompts",
        type=Path,
        metavar="PATH",
        help="a template, or a folder of which the newest is taken: its contract",
    )
    taken.add_argument("--vocabulary", type=Path, metavar="FILE", help="kinds of things and their words (YAML)")
    taken.add_argument("--kind", metavar="KIND", help="what the items are (film, book, ...) where no domain says so")
    taken.add_argument("--note", action="append", default=[], metavar="KEY=VALUE", help="kept with the import")
    taken.add_argument(
        "--max-bad", type=_share, default=0.01, metavar="SHARE", help="largest share of bad rows (default 0.01)"
    )
    taken.add_argument(
        "--skip-bad", action="store_true", help="leave bad rows out, however many, and half a file's rest"
    )
    taken.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return share


def run(args: argparse.Namespace) -> None:
    """Does it."""
    from semacdr.data.item_rows import ItemRows
    from semacdr.profiling.imports import IMPORTED, ImportOptions, import_answers
    from semacdr.profiling.prompts import Vocabulary, load_prompts

    if args.prompts is not None and args.form is not None:
        raise InputError("--form is given by the schema of --prompts", fix="leave one of them out")
    template = None if args.prompts is None else load_prompts([args.prompts], structured=True)[0]
    options = ImportOptions(
        view=args.view,
        model=args.model,
        revision=args.revision,
        prompt=args.prompt or (template.label if template else IMPORTED),
        id_field=args.id_field,
        answer_field=args.answer_field,
        form=args.form,
        template=template,
        kind=args.kind,
        notes=key_values(args.note, "--note", "licence=Apache-2.0"),
        max_bad=args.max_bad,
        skip_bad=args.skip_bad,
    )
    summary = import_answers(ItemRows(args.dataset), args.store, args.input, Vocabulary.load(args.vocabulary), options)
    if args.json:
        print_json(summary)
        return
    _print(summary)


def _print(summary: dict[str, Any]) -> None:
    """The counts, then the first rejected rows of each kind."""
    empty = f", {summary['without_text']} of them without a text" if summary["without_text"] else ""
    print(
        f"{summary['view']}: {summary['valid']} valid of {summary['rows']} rows{empty}; "
        f"{summary['rejected']} rejected; {summary['items_without_row']} items without a row"
    )
    for kind, count in summary["rejected_kinds"].items():
        print(f"  {kind}: {count}")
        for example in summary["first_rejected"][kind]:
            print(f"    {example}")
    print(f"{summary['written']} profiles written, {summary['unchanged']} unchanged")
    say(f"read as {summary['form']}: {summary['id_field']} -> {summary['answer_field']}")
