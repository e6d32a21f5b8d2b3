"""The page in a real browser: it loads alone, draws everything, is sorted and read by keyboard, shows text as text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from semacdr.files import read_json, write_json
from semacdr.report.report import write_report
from semacdr.report.subject import RunEntry, Subject
from tests.report.planted_bench import LABEL, MARKUP

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on the PATH: apt-get install chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE_MS = 120_000  # of a busy machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=PATIENCE_MS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any, bench: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page as it opens; whatever it says to the console or asks the network for is an error."""
    kind = getattr(request, "param", {"viewport": {"width": 1200, "height": 900}})
    made = browser.new_page(reduced_motion="reduce", **kind)  # nothing glides while it is pointed at
    made.set_default_timeout(PATIENCE_MS)
    heard: list[str] = []
    made.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
    made.on("pageerror", lambda error: heard.append(str(error)))
    made.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else heard.append(asked.url))
    made.goto((bench / "report.html").as_uri())
    yield made
    made.close()
    assert heard == []


def column(page: Any, index: int) -> list[str]:
    cells = f"#board tbody:first-of-type tr > :nth-child({index})"
    return list(page.eval_on_selector_all(cells, "cells => cells.map((cell) => cell.firstChild.textContent)"))


def leaderboard_means(bench: Path, **choice: str) -> list[str]:
    """The means of a choice as Python writes them, in no order."""
    rows = read_json(bench / "leaderboard.json")
    chosen = [row for row in rows if all(row[key] == value for key, value in choice.items())]
    return sorted(f"{row['mean']:.4f}" for row in chosen if row["mean"] is not None)


def sorted_as(page: Any, key: str) -> str:
    header = page.locator(f"#board th:has(button[data-key={key}])")
    return str(header.get_attribute("aria-sort"))


def choose(page: Any, **choice: str) -> None:
    for name, value in choice.items():
        page.select_option(f"#choices select[name={name}]", value)


def test_the_leaderboard_is_sorted_by_click_and_by_keyboard(page: Any) -> None:
    choose(page, domain="tea")  # where no published row stands
    means = column(page, 2)
    assert len(means) == 3
    assert means == sorted(means, reverse=True)
    assert sorted_as(page, "mean") == "descending"
    page.click("#board button[data-key=mean]")
    assert column(page, 2) == sorted(means)
    assert (sorted_as(page, "mean"), sorted_as(page, "model")) == ("ascending", "none")
    page.focus("#board button[data-key=model]")
    page.keyboard.press("Enter")
    names = column(page, 1)
    assert names == ["Markov", LABEL, "SemaCDR"]
    assert page.evaluate("document.activeElement.dataset.key") == "model"  # the keyboard stays where it was
    page.keyboard.press("Space")
    assert column(page, 1) == names[::-1]
    assert sorted_as(page, "model") == "descending"


def test_what_is_chosen_is_shown(page: Any) -> None:
    before = column(page, 2)
    choose(page, protocol="sampled-100", metric="hr@10", domain="pans", subset="user >5")
    assert column(page, 2) != before
    assert page.text_content("#board button[data-key=mean]") == "hr@10"
    choose(page, dataset="shop")
    assert column(page, 1) == ["Biases"]
    assert page.text_content("#board button[data-key=mean]") == "mse"
    assert not page.locator("#map").count()


def test_published_and_failed_rows_are_told_apart(page: Any) -> None:
    assert page.text_content("#board tr.published .tag") == "published"
    failed = page.text_content("#board tr.failed")
    assert "no GPU" in failed
    assert "cuda:7" in failed
    assert "Holm" in page.text_content("#leaderboard .legend")


def test_a_test_is_shown_with_its_difference_and_effect_size(page: Any, bench: Path) -> None:
    choose(page, domain="tea")
    wanted = {"dataset": "planted", "protocol": "full", "domain": "tea"}
    tests = [test for test in read_json(bench / "comparisons.json") if wanted.items() <= test.items()]
    heads = page.locator("#board thead button").all_text_contents()
    for test in tests:
        row = page.locator("#board tbody tr").nth(column(page, 1).index(test["model"]))
        shown = row.locator("th, td").all_text_contents()
        low, high = (f"{test[name]:+.4f}" for name in ("ci_low", "ci_high"))
        assert shown[heads.index("To the best")] == f"{test['difference']:+.4f}{low} to {high}"
        assert shown[heads.index("d")] == f"{test['effect_size']:.3f}"
    assert tests


def test_every_picture_has_marks_words_and_a_table(page: Any) -> None:
    figures = page.locator("figure")
    sections = ["domains", "buckets", "training", "cost", "weights", "map"]
    for name in sections:
        assert page.locator(f"#{name} figure").count() > 0, name
    for at in range(figures.count()):
        one = figures.nth(at)
        title = one.locator("h3").text_content()
        assert one.locator("svg[role=img] .mark").count() > 0, title
        assert one.locator("svg[role=img] > desc").text_content(), title
    page.click("#domains figure summary")
    assert page.locator("#domains figure").first.locator("tbody tr").count() == 3
    page.click("#training .chip[aria-pressed=true] >> nth=0")
    assert page.locator("#training .chip[aria-pressed=false]").count() == 1


def test_titles_with_markup_are_text(page: Any) -> None:
    assert page.evaluate("window.broken") is None
    assert page.locator("main b, main script").count() == 0
    assert MARKUP in page.text_content("#examples li >> nth=0")
    assert f"a paper {MARKUP}" in page.text_content("#board tr.published")
    assert page.locator("#examples .person").count() == 6


def test_the_map_tells_what_a_point_is(page: Any) -> None:
    page.focus("#map .map")
    page.keyboard.press("ArrowRight")
    tip = page.locator("#map .tip")
    first = tip.text_content()
    assert " number " in first
    assert MARKUP in first
    assert page.text_content("#map [aria-live]").startswith(first[: first.index(MARKUP)])
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    assert tip.text_content() != first
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    page.locator("#map g .mark").first.evaluate("mark => mark.scrollIntoView({ block: 'center' })")
    box = page.locator("#map g .mark").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert tip.is_visible()
    assert " number " in tip.text_content()


@pytest.mark.parametrize("page", [{"viewport": {"width": 400, "height": 800}}], indirect=True)
def test_a_narrow_page_does_not_scroll_sideways(page: Any) -> None:
    for dataset in ("shop", "planted"):
        choose(page, dataset=dataset)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("figure svg[role=img]").first.bounding_box()["width"] > 250


def luminance(colour: str) -> float:
    """Of ``rgb(r, g, b)``; WCAG 2.2, relative luminance."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


PROBE = """(names) => {
  const probe = document.body.appendChild(document.createElement("i"));
  const found = names.map((name) => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; });
  probe.remove();
  return found;
}"""


@pytest.mark.parametrize(
    "page", [{"color_scheme": scheme} for scheme in ("light", "dark")], ids=["light", "dark"], indirect=True
)
def test_contrast_in_both_schemes(page: Any, request: pytest.FixtureRequest) -> None:
    texts, marks = ["--ink", "--dim", "--accent", "--warn", "--good"], [f"--c{at}" for at in range(8)]
    paper, card, *colours = [luminance(each) for each in page.evaluate(PROBE, ["--paper", "--card", *texts, *marks])]
    assert (paper < 0.1) == ("dark" in request.node.name)
    for name, colour in zip([*texts, *marks], colours):
        for ground in (paper, card):
            ratio = (max(colour, ground) + 0.05) / (min(colour, ground) + 0.05)
            assert ratio >= (4.5 if name in texts else 3), name  # WCAG 2.2: 1.4.3 for text, 1.4.11 for marks


ROW: dict[str, Any] = {
    **{"dataset": "many", "split": "s", "protocol": "full", "subset": "all", "domain": "all", "metric": "ndcg@10"},
    **{"seeds": 1, "source": "measured", "status": "ok"},
}


def opened(browser: Any, subject: Subject, path: Path) -> Any:
    """The page of a subject, and what it complains of."""
    write_report(subject, path)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.heard = []
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize("metric", ["ndcg@10", "hr@10", "mrr"])
def test_every_mean_is_written_as_the_leaderboard_writes_it(page: Any, bench: Path, metric: str) -> None:
    for protocol in ("full", "sampled-100"):
        for domain in ("tea", "pans", "all"):
            choose(page, protocol=protocol, domain=domain, metric=metric)
            choice = {"protocol": protocol, "domain": domain, "metric": metric, "dataset": "planted", "subset": "all"}
            assert sorted(mean.rstrip("†") for mean in column(page, 2)) == leaderboard_means(bench, **choice)


def test_a_half_is_rounded_as_the_leaderboard_rounds_it(browser: Any, tmp_path: Path) -> None:
    means = [1 / 32, 3 / 32, 5 / 32, 31 / 32, 0.5, 0.12345, 0.03125000000000001, 0.03124999999999999, 0.24995000001]
    rows = [{**ROW, "model": f"m{at}", "mean": mean} for at, mean in enumerate(means)]
    page = opened(browser, Subject("half", rows, [], (), {"full": "ndcg@10"}), tmp_path / "half.html")
    assert sorted(column(page, 2)) == sorted(f"{mean:.4f}" for mean in means)
    legend = page.text_content("#leaderboard .legend")
    assert "Tests were made" not in legend  # none were
    page.close()


def test_a_page_of_nothing_is_a_page(browser: Any, tmp_path: Path) -> None:
    page = opened(browser, Subject("nothing", [], [], (), {}), tmp_path / "none.html")
    assert page.text_content("#leaderboard .note") == "No number yet for this choice."
    assert page.heard == []
    page.close()


def test_many_published_rows_leave_room_for_measured_ones(browser: Any, tmp_path: Path) -> None:
    rows = [{**ROW, "model": f"m{at}", "mean": at / 100} for at in range(45)]
    rows += [{**ROW, "model": f"p{at}", "mean": 0.5, "source": "published"} for at in range(45)]
    page = opened(browser, Subject("many", rows, [], (), {"full": "ndcg@10"}), tmp_path / "bars.html")
    names = page.eval_on_selector_all("#domains svg text:not(.strong)", "all => all.map((one) => one.textContent)")
    assert names == [f"m{44 - at}" for at in range(20)] + [f"p{at} (published)" for at in range(20)]
    assert "40 of 90 models" in page.text_content("#domains figure .sub")
    assert "the best is m44" in page.text_content("#domains svg desc")  # though published ones are higher
    page.close()


def test_scores_of_different_validations_stand_apart(browser: Any, tmp_path: Path) -> None:
    """Among 999 negatives a model scores many times what it does among all items: one axis would compare them."""
    runs = []
    for name, protocol in {"a": "full", "b": "sampled-999", "c": "full", "d": None}.items():
        folder = tmp_path / name
        folder.mkdir()
        scored = {"valid_ndcg@10": {"all": 0.25}} if protocol else {}
        (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "loss": 2.5, **scored}))
        write_json(folder / "run.json", {"dataset_fingerprint": "", "training": {"valid_protocol": protocol}})
        runs.append(RunEntry("many", name, folder, 0))
    rows = [{**ROW, "model": run.label, "mean": 0.5} for run in runs]
    page = opened(browser, Subject("apart", rows, [], tuple(runs), {"full": "ndcg@10"}), tmp_path / "apart.html")
    titles = page.locator("#training h3").all_text_contents()
    assert titles == ["Training loss", "Validation ndcg@10 under full", "Validation ndcg@10 under sampled-999"]
    lines = [page.locator("#training figure").nth(at).locator("path.mark title").count() for at in range(3)]
    assert lines == [4, 2, 1]
    assert page.heard == []
    page.close()


def test_a_model_of_each_domain_shows_the_curves_of_the_chosen_one(browser: Any, tmp_path: Path) -> None:
    runs = []
    for name, domain in {"a": "tea", "b": "pans", "c": None, "d": "pans"}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "loss": 2.5}))
        runs.append(RunEntry("many", {"c": "whole", "d": "unfinished"}.get(name, "MF"), folder, 0, domain))
    rating = {**ROW, "protocol": "rating", "metric": "mse", "mean": 1.5}
    rows = [{**rating, "model": model, "domain": domain} for model in ("MF", "whole") for domain in ("tea", "pans")]
    page = opened(browser, Subject("domains", rows, [], tuple(runs), {"rating": "mse"}), tmp_path / "domains.html")

    def shown() -> list[str]:
        return sorted(page.locator("#training figure").first.locator("path.mark title").all_text_contents())

    others = ["unfinished, pans, seed 0", "whole, seed 0"]  # one has no number to be chosen by, one is of all domains
    choose(page, domain="pans")
    assert shown() == ["MF, pans, seed 0", *others]
    choose(page, domain="tea")
    assert shown() == ["MF, tea, seed 0", *others]
    assert page.heard == []
    page.close()


def test_lines_have_heads_and_tables_names(page: Any) -> None:
    assert (
        page.locator("#board tbody tr").count() == page.locator("#board tbody tr > th[scope=row]:first-child").count()
    )
    page.click("#domains figure summary")
    region = page.locator("#domains figure").first.locator("[role=region]")
    title = page.locator("#domains figure h3").first.text_content()
    assert region.get_attribute("aria-label") == f"{title}, as a table"
    assert region.locator("tbody th[scope=row]").count() == 3


def test_what_is_opened_stays_open(page: Any) -> None:
    page.click("#training figure summary")
    page.click("#examples .person summary")
    page.click("#training .chip >> nth=0")
    assert page.locator("#training figure").first.locator("tbody tr").count() > 0
    page.set_viewport_size({"width": 800, "height": 900})
    page.locator('#training svg[role=img][viewBox^="0 0 7"]').first.wait_for()  # in one column now, drawn anew
    assert page.locator("#training figure").first.locator("details[open]").count() == 1
    assert page.locator("#training figure").nth(1).locator("details[open]").count() == 0
    assert page.locator("#examples .person[open]").count() == 1  # of the two that were open


def test_dark_text_on_white_paper(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    ink, paper, dim = [luminance(each) for each in page.evaluate(PROBE, ["--ink", "--paper", "--dim"])]
    assert paper > 0.9
    assert ink < dim < 0.2


def test_ten_thousand_rows_are_cut_until_they_are_asked_for(browser: Any, tmp_path: Path) -> None:
    rows = [{**ROW, "model": f"m{at}", "mean": at / 1e4} for at in range(10_000)]
    page = opened(browser, Subject("many", rows, [], (), {"full": "ndcg@10"}), tmp_path / "many.html")
    assert page.locator("#board tbody tr").count() == 300
    assert page.text_content("#board tbody tr th") == "m9999"
    page.close()
