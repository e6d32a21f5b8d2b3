"""The pages for newcomers do what they say: their code runs, their commands work, their messages are the real ones."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from semacdr.cli import main
from semacdr.models import registry
from semacdr.resources import configs_folder
from tests.planted import write_planted
from tests.test_readme import commands_in

DOCS = Path(__file__).parent.parent / "docs"
COLUMNS = "user_id=customer,item_id=sku,domain=aisle,timestamp=bought_at,title=product"


def blocks(page: str, language: str) -> list[str]:
    """The code of a page, of one language; "" for commands and the like."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [code for kind, code in found if kind == language]


@pytest.fixture
def decay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The model of the page, as if its file and its line were there."""
    name = "semacdr.models.baselines.decay"
    file = tmp_path / "decay.py"
    (code,) = blocks("add_a_model.md", "python")
    file.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    (line,) = [block for block in blocks("add_a_model.md", "") if block.startswith('    "Decay"')]
    entry = json.loads("{" + line.strip().rstrip(",") + "}")
    assert entry == {"Decay": name}
    for key, value in entry.items():
        monkeypatch.setitem(registry.MODELS, key, value)


@pytest.mark.usefixtures("decay")
def test_the_model_of_the_page_learns(tmp_path: Path) -> None:
    data, config = write_planted(tmp_path / "data"), tmp_path / "Decay.yaml"
    text, bench = blocks("add_a_model.md", "yaml")
    config.write_text(text, encoding="utf-8")
    scores = {}
    for model in ("Decay", "Popularity"):
        words = ["--config", str(config), "batch_size=32"] if model == "Decay" else []
        run = str(tmp_path / model)
        assert main(["train", "--quiet", "--model", model, "--dataset", str(data.path), "--out", run, *words]) == 0
        assert main(["evaluate", run, "--quiet"]) == 0
        scores[model] = json.loads(Path(run, "metrics.json").read_text())["full"]["all"]["ndcg@10"]
    assert scores["Decay"] > 1.5 * scores["Popularity"]
    (tmp_path / "mine.yaml").write_text(
        bench.replace("data/ml", "data").replace("baselines/Decay.yaml", str(config)), encoding="utf-8"
    )
    words = ["--data-root", str(tmp_path), "--out", str(tmp_path / "bench"), "--dry-run"]
    assert main(["bench", str(tmp_path / "mine.yaml"), *words]) == 0


def test_what_the_page_adds_has_a_place() -> None:
    """The files that the page writes to are where it says, and the names that it gives are free."""
    text = (DOCS / "add_a_model.md").read_text(encoding="utf-8")
    root = DOCS.parent
    for place in re.findall(r"`((?:semacdr|tests)/[\w/]+\.py)`", text):
        assert (root / place).is_file() != place.endswith("decay.py"), place
    assert not (configs_folder() / "baselines" / "Decay.yaml").exists()
    assert "GradientConformance" in (root / "tests" / "models" / "test_conformance.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop of the page, made by its code."""
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (code,) = blocks("bring_your_data.md", "python")
        exec(compile(code, "bring_your_data.md", "exec"), {})
    return folder


def test_the_steps_work(shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sentence_transformers", reason="the train extra is not installed")
    monkeypatch.chdir(shop)
    config = blocks("bring_your_data.md", "yaml")[0].replace("seeds: [0, 1]", "seeds: [0]")  # a process a seed
    Path("shop.yaml").write_text(config, encoding="utf-8")
    steps = [line for block in blocks("bring_your_data.md", "") for line in commands_in(block)]
    assert [line.split()[1] for line in steps] == ["data", "data", "embed", "train", "evaluate", "recommend", "bench"]
    for line in steps:
        words = shlex.split(line)[1:]
        assert main([word.replace("epochs=8", "epochs=1") for word in words]) == 0, line
        capsys.readouterr()
    metrics = json.loads(Path("runs/shop/metrics.json").read_text())
    assert 0 < metrics["full"]["tea"]["coverage@10"] <= 1
    assert Path("runs/bench-shop/leaderboard.md").is_file()


def faults(shop: Path) -> dict[str, list[str]]:
    """What is typed -> part of what the page says that is answered."""
    head = shop / "few.csv"
    head.write_text("\n".join((shop / "shop.csv").read_text().splitlines()[:3]) + "\n")
    (shop / "cut.csv").write_text("user_id,item_id,domain\n1,2,x\n3\n")
    names = "user_id,item_id,domain"
    (shop / "semicolons.csv").write_text("customer;sku;aisle\n1;2;x\n")
    (shop / "dates.csv").write_text(f"{names},time\n1,2,x,31.12.2023\n1,3,x,1.1.2024\n")
    (shop / "commas.csv").write_text(f'{names},rating\n1,2,x,"4,5"\n1,3,x,\n')
    (shop / "twice.csv").write_text(f"{names}\n1,2,x\n1,2,x\n")
    convert = f"data convert --format table --output {shop}/x --input {shop}"
    return {
        f"{convert}/shop.csv": ["no column for user_id; there are: customer, sku, aisle, bought_at, product"],
        f"{convert}/shop.csv --columns user=customer": ["--columns: no column 'user' of ours"],
        f"{convert}/shop.csv --columns user_id=custommer,item_id=sku": ["no column 'custommer'"],
        f"{convert}/shop.csv --columns {COLUMNS.replace('bought', 'bougt')}": ["no column 'bougt_at' for timestamp"],
        f"{convert}/semicolons.csv": ["one column, 'customer;sku;aisle': separated by ';'"],
        f"{convert}/dates.csv": ["time not a number and no ISO date"],
        f"{convert}/commas.csv": ["rating not a number"],
        f"{convert}/twice.csv": ["duplicate"],
        f"embed --dataset {shop}/few-untitled --out {shop}/x": ["none of the items has any text to embed"],
        f"{convert}/shop.csv --columns user_id=customer,item_id=sku": ["nothing says the domain of an event"],
        f"{convert}/cut.csv": ["1 bad row(s), nothing written"],
        f"data convert --format csv --input {shop}/shop.csv --output {shop}/x": ["unknown format 'csv'"],
        f"train --model SASRec --dataset {shop}/shop.csv --out {shop}/x": ["not a data set folder (no dataset.json)"],
        f"train --model UniSRec --dataset {shop}/whole --out {shop}/x": ["UniSRec knows items by their text alone"],
        f"evaluate {shop}/few-run": ["no test targets to rank under leave-one-out"],
        f"train --model Markov --dataset {shop}/whole --out {shop}/few-run": ["holds another run"],
        f"train --model SASRec --dataset {shop}/whole --out {shop}/x epocs=1": [
            "unknown key 'epocs': did you mean 'epochs'?"
        ],
    }


def test_the_messages_are_the_real_ones(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = faults(shop)
    for name, file in (("whole", "shop.csv"), ("few", "few.csv")):
        words = f"data convert --format table --input {shop}/{file} --output {shop}/{name} --columns {COLUMNS}"
        assert main(words.split()) == 0
    untitled = COLUMNS.replace(",title=product", "")
    words = f"data convert --format table --input {shop}/few.csv --output {shop}/few-untitled --columns {untitled}"
    assert main(words.split()) == 0
    assert main(f"train --quiet --model Popularity --dataset {shop}/few --out {shop}/few-run".split()) == 0
    table = (DOCS / "bring_your_data.md").read_text(encoding="utf-8").partition("## What you may be told")[2]
    told = re.findall(r"^\| `([^`]+)` \|", table, re.M)
    assert told == [message for messages in typed.values() for message in messages]
    for line, messages in typed.items():
        capsys.readouterr()
        assert main(line.split()) == 2, line
        said = capsys.readouterr().err
        assert all(message in said for message in messages), (line, said)
        assert not (shop / "x").exists()


def test_the_bench_of_the_page_is_valid() -> None:
    (text,) = blocks("bring_your_data.md", "yaml")
    assert yaml.safe_load(text)["datasets"][0]["convert"]["columns"] == dict(
        pair.split("=") for pair in COLUMNS.split(",")
    )
