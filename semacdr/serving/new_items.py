"""Items that are in no data set: their vectors from their texts, and their way into a run's index."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semacdr.data.item_text import clean, cut
from semacdr.data.schema import ITEM_ID, ITEM_TEXT_COLUMNS, TITLE, FloatArray
from semacdr.embedding.build import CONTENT
from semacdr.embedding.content import content_text, content_texts
from semacdr.embedding.encoder import SentenceEncoder
from semacdr.errors import InputError
from semacdr.local_models import EMBEDDED, ENCODER_PACKAGE
from semacdr.models.semacdr import SemaCDR
from semacdr.progress import Progress
from semacdr.run import LoadedRun
from semacdr.serving.index import SearchIndex

TITLE_CHARACTERS = 100
SAME = 1e-4
"""How far the numbers of one text's vector may lie apart between two calls, by what else is encoded with it."""


@dataclass(frozen=True)
class Described:
    """A new item as a user gives it; its title is the beginning of its text where it has none."""

    item_id: str
    domain: str
    text: str
    title: str


class ItemPlacer:
    """Gives new items the vectors that a run's model has for them; the encoder is loaded once.

    Args:
        run: of a SemaCDR that reads text or semantic ids.
        encoder: where the text encoder is, if the run's table or ids do not say.

    Raises:
        InputError: the model cannot place a text, or its encoder is not at hand or not that of its semantic ids.
    """

    def __init__(self, run: LoadedRun, encoder: str | None = None) -> None:
        self.run, where = run, str(run.path)
        if not isinstance(run.model, SemaCDR):
            what = f"{run.manifest['model']} has no vector for an item outside its data set; SemaCDR has one"
            raise InputError(what, where=where, fix="train SemaCDR with --embeddings or --ids")
        self.model = run.model
        if not self.model.items.views:
            what = "this SemaCDR was trained without texts and semantic ids: it scores items by id"
            raise InputError(what, where=where, fix="train SemaCDR with --embeddings or --ids")
        if run.ids is None and CONTENT not in self.model.items.text_views:
            what = f"this SemaCDR reads no view {CONTENT!r}, which a new item has alone"
            raise InputError(what, where=where, fix="train it with that view too, or with --ids")
        if run.table is None and run.ids is None:
            raise InputError("the embeddings of this run are gone", where=where, fix="say where they are: --embeddings")
        self.encoder = _encoder(_made_with(run), encoder)

    def _encoded(self, texts: Sequence[str]) -> FloatArray:
        """(n, E), each text a batch of its own: what stands beside a text would change its last bits, and its codes."""
        known: dict[str, FloatArray] = {}
        progress = Progress(len(texts), "new items", "texts")
        for text in texts:
            if text not in known:
                known[text] = self.encoder.encode([text])[0]
            progress.update(1)
        progress.close()
        return np.stack([known[text] for text in texts])

    @cached_property
    def _catalogue(self) -> dict[str, str]:
        """Content text -> the first item of the ids with it, where items may have other codes than their nearest."""
        ids = self.run.ids
        if ids is None or ids.manifest["settings"]["collisions"] == "token":
            return {}
        frame = self.run.dataset.item_frame()
        pairs = zip(content_texts(frame), map(str, frame[ITEM_ID]))
        return {text: item for text, item in reversed(list(pairs)) if text is not None and item in ids.item_index}

    def vectors(self, texts: Sequence[str], domains: Sequence[int]) -> FloatArray:
        """(n, D) vectors of items from their texts alone.

        Args:
            texts: n of them, none of them empty.
            domains: index of each item's domain.
        """
        if not all(text.strip() for text in texts):
            raise InputError("the text of the new item is empty")
        content, ids = torch.from_numpy(self._encoded(texts)), self.run.ids
        codes = None
        if ids is not None:
            # a view that is missing is zero, as where the ids were made
            widths = ids.manifest["widths"]
            if CONTENT not in widths:
                raise InputError(f"these ids are not of {CONTENT}, which a new item has alone", where=str(ids.path))
            zeros = {view: np.zeros((len(texts), width), np.float32) for view, width in widths.items()}
            joined = np.concatenate([content.numpy() if view == CONTENT else zeros[view] for view in widths], axis=1)
            found = ids.nearest(joined)
            for row, text in enumerate(texts):  # re-assignment may have made its codes others than the nearest
                if text in self._catalogue:
                    found[row] = ids.codes_of([self._catalogue[text]])[0, :-1]
            codes = torch.from_numpy(found).long()
        with torch.no_grad():
            vectors = self.model.items.new_vectors({CONTENT: content}, torch.tensor(list(domains)), codes)
        placed: FloatArray = vectors.float().numpy()
        if not np.isfinite(placed).all():
            raise InputError(
                "the model gives vectors that are not numbers", where=str(self.run.path), fix="train again"
            )
        return placed


@dataclass(frozen=True)
class Change:
    """What became of a list of items to add and to remove: how many of each, and how many were so before."""

    added: int
    removed: int
    done_before: int


def place_items(
    run: LoadedRun,
    index: SearchIndex,
    items: Sequence[Described],
    remove: Sequence[str] = (),
    encoder: str | None = None,
) -> FloatArray:
    """(n, D) vectors of new items for :func:`change_items`; what can be known before their texts are read is.

    Raises:
        InputError: see :class:`ItemPlacer`; an unknown domain, an id that is there in another domain and not removed,
            or an unknown id to be removed.
    """
    catalogue, gone = run.dataset.catalogue(), set(remove)
    domains = [catalogue.domain_index(item.domain) for item in items]
    elsewhere = [item.item_id for item in items if index.vector(item.item_id, item.domain) is None]
    _check_free(index, [item for item in elsewhere if item not in gone])
    index.check_there([item for item in remove if not index.was_removed(item)])
    if not items:
        return np.zeros((0, index.dim), np.float32)
    return ItemPlacer(run, encoder).vectors([item.text for item in items], domains)


def change_items(
    index: SearchIndex, items: Sequence[Described], vectors: FloatArray, remove: Sequence[str] = ()
) -> Change:
    """Takes items out of an index and puts new ones in, so that they are searched with the others; nothing is trained.

    An id of both lists is replaced. What is done already is left, so that a call can be made again: an item that is
    there with this vector and title, and one that was removed.

    Args:
        index: of a run.
        items: n different ones.
        vectors: (n, D), of :func:`place_items`.
        remove: ids.

    Raises:
        InputError: an id that is there with another vector, title or domain and not removed, or an unknown id to be
            removed. The index is unchanged.
    """
    named = set(remove)

    def is_there(item: Described, vector: FloatArray) -> bool:
        old, title = index.vector(item.item_id, item.domain), index.added_title(item.item_id)
        if old is None or not np.allclose(old, vector, rtol=SAME, atol=SAME):
            return False
        return title == item.title or (title is None and item.item_id not in named)

    left = [row for row, item in enumerate(items) if not is_there(item, vectors[row])]
    kept = {item.item_id for item in items} - {items[row].item_id for row in left}
    gone = [item for item in dict.fromkeys(remove) if item not in kept and not index.was_removed(item)]
    _check_free(index, [items[row].item_id for row in left if items[row].item_id not in named])
    index.remove(gone)
    for domain in dict.fromkeys(items[row].domain for row in left):
        rows = [row for row in left if items[row].domain == domain]
        index.add([items[row].item_id for row in rows], vectors[rows], domain, [items[row].title for row in rows])
    return Change(len(left), len(gone), len(items) - len(left) + len(named) - len(gone))


def _check_free(index: SearchIndex, item_ids: Sequence[str]) -> None:
    taken = [item for item in item_ids if item in index]
    if taken:
        what = f"{len(taken)} items are there already with another text, title or domain: {', '.join(taken[:5])}"
        raise InputError(what, fix="name them in --remove too, and they are replaced")


def read_new_items(path: Path) -> list[Described]:
    """Items of a file with a JSON object a line: ``item_id``, ``domain``, and ``text`` or columns of items.parquet.

    The columns (``title``, ``brand``, ``categories``, ...) become one text as :func:`content_text` writes those of the
    catalogue; ``text`` is taken as it is.

    Raises:
        InputError: no such file, a line that is something else, or an item that stands there twice; it names the line.
    """
    if not path.is_file():
        raise InputError("no such file" if not path.exists() else "no file", where=str(path))
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # other breaks may stand inside a text
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error})", where=str(path)) from None
    items: dict[str, Described] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"not valid JSON ({error})", where=where) from None
        item = _described(row, where)
        if item.item_id in items:
            raise InputError(f"item {item.item_id!r} stands there twice", where=where)
        items[item.item_id] = item
    return list(items.values())


def _described(row: object, where: str) -> Described:
    example = json.dumps(dict.fromkeys(("item_id", "domain", "text"), "..."))
    columns = f"{', '.join(ITEM_TEXT_COLUMNS)} as in a data set's items in place of text"
    fix = f"lines like {example}; ids without commas; {columns}"
    if not isinstance(row, dict):
        raise InputError("not an item", where=where, fix=fix)
    plain = row.get("text") is not None
    for name in ("item_id", "domain", *(["text"] if plain else [])):
        if not _is_said(row.get(name), name):
            raise InputError(f"an item with no {name} of use", where=where, fix=fix)
    text = str(row["text"]).strip() if plain else content_text(row)
    title = clean(row.get(TITLE)) or clean(text)
    if not text or not _is_whole(text + title):
        raise InputError("an item with no text of use", where=where, fix=fix)
    shown = "".join(letter for letter in cut(title, TITLE_CHARACTERS) if letter.isprintable())
    return Described(str(row["item_id"]).strip(), str(row["domain"]).strip(), text, shown)


def _is_whole(text: str) -> bool:
    """Whether no character of a text is a half of one."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_said(value: object, name: str) -> bool:
    """Whether a field of a line is one: some text, or a whole number as an id."""
    if name == "item_id" and isinstance(value, int) and not isinstance(value, bool):
        return True
    if not isinstance(value, str) or not value.strip():
        return False
    return _is_whole(value) and (name != "item_id" or "," not in value)  # as --remove and --history write them


def _made_with(run: LoadedRun) -> Mapping[str, Any]:
    """The encoder of a run's texts. Codes of another one's vectors would mean nothing."""
    ids, table = run.ids, run.table
    if table is None:
        assert ids is not None
        if "encoder" not in ids.manifest:
            what = "these ids do not say by which text encoder they were made"
            raise InputError(what, where=str(ids.path), fix="--embeddings, the table that they were made of")
        return {"name": EMBEDDED, "revision": "", "weights_sha256": ids.manifest["encoder"]}
    made_with: Mapping[str, Any] = table.manifest["encoder"]
    if ids is None:
        return made_with
    if "encoder" in ids.manifest:
        same = ids.manifest["encoder"] == made_with["weights_sha256"]
    else:  # older ids name their table alone
        same = ids.manifest["source"]["fingerprint"] == table.fingerprint
    if not same:
        raise InputError(
            "the ids are not known to be of the text encoder of the run's table, so a new text has no codes",
            where=str(ids.path),
            fix=f"make ids with semacdr ids --embeddings {table.path} and train with them",
        )
    return made_with


def _encoder(made_with: Mapping[str, Any], place: str | None) -> SentenceEncoder:
    """The encoder that texts were encoded with: another one's vectors mean nothing to the model."""
    if place is None and made_with["revision"] == "local":
        raise InputError(
            f"the table was made with a local encoder, {made_with['name']!r}", fix="say where it is: --encoder DIR"
        )
    name = EMBEDDED if made_with["name"] == ENCODER_PACKAGE else made_with["name"]
    encoder = SentenceEncoder(place or name)
    if encoder.identity["weights_sha256"] != made_with["weights_sha256"]:
        known = f", {made_with['name']!r} of revision {made_with['revision']}" if made_with["revision"] else ""
        raise InputError(
            f"not the encoder of the run's texts{known}",
            where=place or name,
            fix="--encoder DIR",
        )
    return encoder
