"""LoID's plug-ins in a bench: made once a source domain, never from the target's own, part of a cell's identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from semacdr.bench import plugins as module
from semacdr.bench.bench import Bench
from semacdr.bench.config import Plugins, read_config
from semacdr.bench.plugins import plugin_folders, plugin_note, plugin_settings
from semacdr.bench.record import Record
from semacdr.cli import main
from semacdr.errors import InputError
from semacdr.files import write_json
from semacdr.run import RUN
from tests.bench.tiny import write_config
from tests.planted_reviews import write_reviews


def bench(folder: Path, **settings: object) -> Bench:
    if not (folder / "reviews").exists():
        write_reviews(folder / "reviews", domains=3, users=10)
    shop = {"name": "shop", "folder": "reviews", "protocols": ["rating"], "rating_domains": ["tea", "pans"]}
    sources = {"domains": ["tea", "rugs"], "settings": {"epochs": 1, **settings}}
    config = write_config(folder, datasets=[shop], models=[{"name": "LoID", "plugins": sources}], seeds=[0])
    return Bench(read_config(config), folder / "out", config)


def test_sources_leave_the_target_out_and_are_checked() -> None:
    sources = plugin_settings(Plugins(domains=["tea", "rugs"], settings={"epochs": 1}), "tea")
    assert sources == {"rugs": {"epochs": 1, "domain": "rugs"}}
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        plugin_settings(Plugins(domains=["rugs"], settings={"epocs": 1}), "tea")


def test_each_is_made_once_and_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def loid(words: list[str]) -> None:
        folder = Path(words[words.index("--out") + 1])
        folder.mkdir(parents=True)
        (folder / module.ADAPTER_CONFIG).write_text("{}")
        made.append(words[words.index("--domain") + 1])

    monkeypatch.setattr(module, "command", loid)
    for _ in range(2):  # the second time all is there
        shop = bench(tmp_path)
        shop.prepare(shop.lines)
        assert made == ["rugs", "tea"]
    cells = {line.domain: shop.cells(line)[0] for line in shop.lines}
    taken = {
        domain: [Path(path).name.split("-")[0] for path in cell.settings["plugins"]] for domain, cell in cells.items()
    }
    assert taken == {"tea": ["rugs"], "pans": ["tea", "rugs"]}
    other = bench(tmp_path, rank=2)
    other.prepare(other.lines)
    assert made == ["rugs", "tea"] * 2
    assert other.cells(other.lines[0])[0].folder != cells["tea"].folder


def test_a_record_knows_what_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loid(words: list[str]) -> None:
        folder = Path(words[words.index("--out") + 1])
        folder.mkdir(parents=True)
        (folder / module.ADAPTER_CONFIG).write_text("{}")
        manifest = {"status": "done", "config": {"encoder": str(tmp_path / "small")}, "dataset": str(tmp_path)}
        write_json(folder / RUN, {**manifest, "result": {"train_cpu_seconds": 20.4 if "tea" in words else 10.4}})

    monkeypatch.setattr(module, "command", loid)
    for out in ("out", "elsewhere"):
        shop = bench(tmp_path)
        shop.out = tmp_path / out
        shop.prepare([], Record(tmp_path / "record", shop.out))
        notes = {
            line.domain: plugin_note(plugin_folders(line.sources, shop.data["shop"], shop.out)) for line in shop.lines
        }
        if out == "out":
            assert notes["tea"] == "plug-ins of rugs, whose training is not counted"
            shop.prepare(shop.lines, Record(tmp_path / "record", shop.out))
    assert notes == {"tea": "plug-ins of rugs: 10 CPU s more", "pans": "plug-ins of tea, rugs: 31 CPU s more"}
    assert not list((tmp_path / "elsewhere").rglob(module.ADAPTER_CONFIG))
    for folder in plugin_folders(shop.lines[0].sources, shop.data["shop"], shop.out).values():
        folder.mkdir()
        write_json(folder / RUN, {"status": "running"})  # a pre-training that was killed
        assert plugin_note({"rugs": folder}) == "plug-ins of rugs: 10 CPU s more"
    kept = [path.read_text() for path in (tmp_path / "record").rglob("*.json")]
    assert len(kept) == 2
    assert str(tmp_path) not in "".join(kept)
    for path in (tmp_path / "record").rglob("*.json"):
        path.write_text('{"result": {}}')
    with pytest.raises(InputError, match="damaged record"):
        shop.prepare([], Record(tmp_path / "record", shop.out))


def test_a_model_without_plugins_refuses_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, models=[{"name": "SASRec", "plugins": {"domains": ["tea"]}}])
    assert main(["bench", str(config), "--out", str(tmp_path / "out")]) == 2
    assert "SASRec takes no plug-ins" in capsys.readouterr().err
