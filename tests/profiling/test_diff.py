"""Two sides on the same items: what is counted, what is marked, and that texts stay text."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from semacdr.cli import main
from semacdr.data.item_rows import ItemRows
from semacdr.profiling.diff import Outcome, Question, Side, compare, store_side
from semacdr.profiling.diff_page import marked, page
from semacdr.profiling.prompts import Vocabulary, load_prompts
from semacdr.profiling.run import RunOptions, profile_items
from semacdr.profiling.store import AnswerStore
from semacdr.resources import prompts_folder
from tests.profiling.large import peak, write_large
from tests.profiling.small import FakeEngine, write_dataset

V = "valid"


class Reader(HTMLParser):
    """Tags in order, and the text by the tag that it stands in; a tag that is closed twice or never is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "br", "col"):
            self.open.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))


def sides(tmp_path: Path, a: dict, b: dict, most: int = 10):
    write_dataset(tmp_path / "data", 1, lambda rows: rows[0].update(title="<script>alert(1)</script> & co"))
    left, right = (
        Side(name, ("plot",), lambda _, side=side: {("plot", item): Outcome(*said) for item, said in side.items()})
        for name, side in (("A", a), ("B", b))
    )
    return compare(left, right, ItemRows(tmp_path / "data"), most)


def test_counts_and_order(tmp_path: Path) -> None:
    found = sides(
        tmp_path,
        {"f0c0": (V, "a b c d"), "f1c0": (V, "a b"), "f2c0": (V, "x y"), "f3c0": ("too_short", "x"), "gone": (V, "q")},
        {"f0c0": (V, "a b c e"), "f1c0": (V, "a b"), "f2c0": (V, "z w"), "f4c0": (V, "only here now")},
    )
    assert [entry["item_id"] for entry in found["items"]["plot"]] == ["f2c0", "f3c0", "f4c0", "f0c0", "f1c0"]
    counts = found["counts"]["plot"]
    assert (counts["items"], counts["equal"], counts["both_valid"]) == (5, 1, 3)
    assert counts["likeness"] == pytest.approx((0.75 + 1 + 0) / 3, abs=1e-3)
    assert counts["a"] == {"kinds": {V: 3, "too_short": 1, "absent": 1}, "words": pytest.approx(8 / 3, abs=0.1)}
    assert counts["b"] == {"kinds": {V: 4, "absent": 1}, "words": pytest.approx(11 / 4, abs=0.1)}


def test_items_that_differ_most_are_told_and_all_are_counted(tmp_path: Path) -> None:
    a = {"f0c0": (V, "a b c d"), "f1c0": (V, "a b"), "f2c0": (V, "x y"), "f3c0": (V, "p q"), "f4c0": (V, "a b c d")}
    b = {"f0c0": (V, "a b c e"), "f1c0": (V, "a b"), "f2c0": (V, "z w"), "f3c0": (V, "z w"), "f4c0": (V, "a b c e")}
    for most, told in ((1, ["f2c0"]), (3, ["f2c0", "f3c0", "f0c0"])):
        found = sides(tmp_path, a, b, most)
        assert [entry["item_id"] for entry in found["items"]["plot"]] == told
        assert (found["counts"]["plot"]["items"], found["counts"]["plot"]["equal"]) == (5, 1)


def test_memory_does_not_grow_with_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ItemRows.blocks, "__defaults__", (None, 100))
    monkeypatch.setattr(
        "semacdr.profiling.diff._entry",
        lambda item, title, a, b: {  # words are compared elsewhere
            "item_id": item,
            "likeness": 0.5,
            "a": {"kind": a.kind, "text": a.text},
            "b": {"kind": b.kind, "text": b.text},
        },
    )
    peaks = []
    for count in (500, 4000):
        items, path = write_large(tmp_path / str(count), count)
        with AnswerStore(path) as store:
            side = store_side(store, Question(items, Vocabulary.load()))
            compare(side, side, items, 20)
            peaks.append(peak(compare, side, side, items, 20))
            assert compare(side, side, items, 20)["counts"]["plot"]["both_valid"] == count
    assert peaks[1] < 1.5 * peaks[0]


def test_marks() -> None:
    assert marked("a calm dark film", "a calm <b>film</b> film") == (
        "a calm <del>dark</del> film",
        "a calm <ins>&lt;b&gt;film&lt;/b&gt;</ins> film",
    )
    assert marked("", "new") == ("", "<ins>new</ins>")
    assert marked("same", "same") == ("same", "same")


def test_page_is_whole_and_texts_stay_text(tmp_path: Path) -> None:
    bad = "</td><script>alert(2)</script> <img src=x onerror=alert(3)> &amp; plain"
    found = sides(
        tmp_path, {"f0c0": ("title_word", bad), "f1c0": (V, "one two")}, {"f0c0": (V, "fine"), "f1c0": (V, "x")}
    )
    read = Reader(page({**found, "a": "<i>A</i>"}))
    assert not {"script", "img", "i", "link", "a"} & set(read.tags)
    assert ("del", bad) in read.texts
    assert ("ins", "fine") in read.texts
    assert ("span", "title_word") in read.texts
    assert any("<script>alert(1)</script> & co" in text for _, text in read.texts)


def run(folder: Path, store: Path, engine: FakeEngine, paths: list[Path] | None = None) -> None:
    with AnswerStore(store) as opened:
        profile_items(ItemRows(folder), engine, opened, load_prompts(paths), Vocabulary.load(), RunOptions())


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "data")
    shipped = prompts_folder() / "item" / "domain_specific"
    (tmp_path / "new").mkdir()
    source = (shipped / "v1.j2").read_text()
    (tmp_path / "new" / "v3.j2").write_text(
        source.replace("version: v1", "version: v3").replace("what kind", "which kind")
    )
    store = tmp_path / "s.sqlite"
    run(tmp_path / "data", store, FakeEngine())
    run(tmp_path / "data", store, FakeEngine(), [tmp_path / "new"])  # its profiles take the old ones' place
    run(tmp_path / "data", store, FakeEngine(model="other"))
    run(tmp_path / "data", tmp_path / "t.sqlite", FakeEngine(model="other"))
    common = ["--dataset", str(tmp_path / "data")]

    def diff(*arguments: str) -> dict:
        assert main(["profile", "diff", *arguments, *common, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    two = [str(shipped / "v1.j2"), str(tmp_path / "new" / "v3.j2")]
    versions = diff(*two, "--store", str(store), "--model", "fake-model", "--out", str(tmp_path / "d.html"))
    assert versions["counts"]["domain_specific"]["both_valid"] == 11
    assert versions["counts"]["domain_specific"]["equal"] == 0
    assert "item/domain_specific@v3" in versions["b"]
    assert Reader((tmp_path / "d.html").read_text()).tags.count("tr") == 11 + 1 + 3
    models = diff("fake-model", "other@1", "--store", str(store))
    assert set(models["counts"]) == {"domain_specific", "domain_agnostic"}
    assert models["counts"]["domain_agnostic"]["equal"] == 0
    stores = diff(str(store), str(tmp_path / "t.sqlite"))
    assert [counts["equal"] for counts in stores["counts"].values()] == [11, 11]

    agnostic = str(shipped.parent / "domain_agnostic" / "v1.j2")
    for arguments, says in (
        ([*two, "--store", str(store), "--json"], "answers of 2 models"),
        (["fake-mode", "other", "--store", str(store), "--json"], "fake-model@1"),
        ([*two, "--json"], "a store is needed"),
        ([str(store), str(store)], "nothing to write"),
        ([two[0], agnostic, "--store", str(store), "--model", "other", "--json"], "no view in common"),
    ):
        assert main(["profile", "diff", *arguments, *common]) == 2
        assert says in capsys.readouterr().err
