"""The leaderboard as Markdown, from its rows and tests alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from semacdr.bench.significance import LEVEL
from semacdr.data.split_names import hides_events
from semacdr.evaluation.coverage import is_coverage
from semacdr.evaluation.evaluate import ALL, RESAMPLES
from semacdr.evaluation.metrics import lower_is_better

Rows = Sequence[dict[str, Any]]
MIB = 1 << 20
SMALL = "‡"
BESIDE = ("hr@10", "mrr", "mae", "rmse")  # shown over all domains, where a table has them


def tables(rows: Rows, tests: Rows, lead: Callable[[str], str]) -> str:
    """All tables: for each data set and protocol the scores, the paired tests and the subsets, then the costs.

    Args:
        rows: of the leaderboard.
        tests: see :mod:`semacdr.bench.significance`.
        lead: the metric that counts under a protocol.
    """
    parts: list[str] = []
    for dataset in _distinct(row["dataset"] for row in rows):
        mine = [row for row in rows if row["dataset"] == dataset]
        for protocol in _distinct(row["protocol"] for row in mine if row["protocol"]):
            shown = [row for row in mine if row["protocol"] == protocol]
            found = [test for test in tests if test["dataset"] == dataset and test["protocol"] == protocol]
            metric = lead(protocol)
            splits = _distinct(row["split"] for row in shown if hides_events(row.get("split")))
            parts += [f"## {', '.join([dataset, *splits, protocol])}", "", *_scores(shown, found, metric), ""]
            parts += [*_tests(found, metric, _domains(shown)), *_subsets(shown, metric)]
        parts += [*_costs(dataset, mine), *_failures(mine)]
    return "\n".join(parts).rstrip() + "\n"


def _scores(rows: Rows, tests: Rows, metric: str) -> list[str]:
    """A line a model, best first; published ones below."""
    cells = {(row["source"], row["model"], row["domain"], row["metric"]): row for row in rows if row["subset"] == ALL}
    domains = _domains(rows)
    there = _distinct(row["metric"] for row in rows)
    beside = [name for name in BESIDE if name != metric and name in there] + [n for n in there if is_coverage(n)]
    measured = _distinct(row["model"] for row in rows if row["source"] == "measured")
    last = domains[-1]
    sign = 1 if lower_is_better(metric) else -1

    def order(model: str) -> float:
        row = cells.get(("measured", model, last, metric))
        return sign * row["mean"] if row else float("inf")

    measured.sort(key=order)
    sizes = {
        domain: next((r["n_targets"] for r in rows if r["domain"] == domain and r["n_targets"]), 0)
        for domain in domains
    }
    head = [f"{metric}, {domain} ({sizes[domain]})" for domain in domains]
    lines = [
        f"| model | {' | '.join(head + [f'{name}, {last}' for name in beside])} | seeds | trials |",
        "|---" * (3 + len(head) + len(beside)) + "|",
    ]
    marks = {(test["domain"], test["model"]): test["p_holm"] for test in tests}
    best = {test["domain"]: test["best"] for test in tests}
    for source, models in (
        ("measured", measured),
        ("published", _distinct(row["model"] for row in rows if row["source"] == "published")),
    ):
        for model in models:
            own = [row for row in rows if (row["source"], row["model"]) == (source, model)]
            ours = source == "measured"
            words = [
                _cell(
                    cells.get((source, model, domain, metric)),
                    ours and best.get(domain) == model,
                    marks.get((domain, model)) if ours else None,
                )
                for domain in domains
            ]
            words += [_cell(cells.get((source, model, last, name)), interval=False) for name in beside]
            title = model if ours else f"*{model}, published: {own[0]['note']}*"
            lines.append(f"| {title} | {' | '.join(words)} | {own[0]['seeds']} | {own[0]['trials'] or ''} |")
    lines += ["", _legend(tests, metric)]
    return lines


def _cell(row: dict[str, Any] | None, best: bool = False, p_holm: float | None = None, interval: bool = True) -> str:
    if row is None:
        return ""
    mean = f"{row['mean']:.4f}"
    mark = "**" if best else ""
    level = "†" if p_holm is not None and p_holm >= LEVEL else ""
    spread = "" if row["std"] is None else f" ±{row['std']:.4f}"
    limits = f" [{row['ci_low']:.4f}, {row['ci_high']:.4f}]" if interval and row["ci_low"] is not None else ""
    return f"{mark}{mean}{mark}{level}{spread}{limits}"


def _legend(tests: Rows, metric: str) -> str:
    what = "lowest" if lower_is_better(metric) else "highest"
    marks = ""
    if tests:
        marks = (
            f"**Bold**: the {what} mean of a column. †: not significantly behind it (paired sign-flip test over users, "
            f"seeds averaged first, p ≥ {LEVEL:g} after Holm's correction for the {tests[0]['family']} tests of this "
            "table). "
        )
    return (
        f"{marks}Each column names its number of targets. ±: standard deviation over seeds. []: central 95 % of "
        f"{RESAMPLES} bootstrap resamples of users."
    )


def _tests(tests: Rows, metric: str, domains: list[str]) -> list[str]:
    if not tests:
        return []
    lines = [
        f"Against the best of each domain ({metric}), the nearest first:",
        "",
        "| domain | best | model | difference [95 %] | relative | p | p, Holm | effect size d |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for test in sorted(tests, key=lambda test: (domains.index(test["domain"]), abs(test["difference"]))):
        relative = "" if test["relative"] is None else f"{test['relative']:+.1%}"
        lines.append(
            f"| {test['domain']} | {test['best']} | {test['model']} | {test['difference']:+.4f} "
            f"[{test['ci_low']:+.4f}, {test['ci_high']:+.4f}] | {relative} | {_p(test['p_value'])} "
            f"| {_p(test['p_holm'])} | {test['effect_size']:+.3f} |"
        )
    lines += ["", "d: mean over users of the paired difference, over its standard deviation.", ""]
    return lines


def _domains(rows: Rows) -> list[str]:
    """The domains of a table, all of them together last."""
    names = _distinct(row["domain"] for row in rows)
    return sorted(names, key=lambda name: name == ALL)


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 else f"{value:.1e}"


def _subsets(rows: Rows, metric: str) -> list[str]:
    """The strict subset and the cold buckets, over all domains, or of each where models have one domain."""
    mine = [row for row in rows if row["source"] == "measured" and row["metric"] == metric]
    places = _distinct(row["domain"] for row in mine)
    lines: list[str] = []
    for place in [ALL] if ALL in places else places:
        shown = [row for row in mine if row["domain"] == place]
        names = [name for name in _distinct(row["subset"] for row in shown) if name != ALL]
        if not names:
            continue
        sizes = {name: next(row["n_targets"] for row in shown if row["subset"] == name) for name in names}
        strict = "strict (a later day than the event before), " if "strict" in names else ""
        lines += [
            f"{metric} of subsets of the targets{'' if place == ALL else f' in {place}'}: {strict}"
            "by training events of the item, by events of the user in the domain (number of targets):",
            "",
            f"| model | {' | '.join(f'{name} ({sizes[name]})' for name in names)} |",
            "|---" * (1 + len(names)) + "|",
        ]
        by_model = {(row["model"], row["subset"]): row for row in shown}
        sign = 1 if lower_is_better(metric) else -1
        order = {row["model"]: sign * row["mean"] for row in shown if row["subset"] == ALL}
        for model in sorted(order, key=lambda name: order[name]):
            words = [_cell(by_model.get((model, name)), interval=False) for name in names]
            lines.append(f"| {model} | {' | '.join(words)} |")
        lines.append("")
    return lines


def _costs(dataset: str, rows: Rows) -> list[str]:
    """A line a model; one for each domain where models have one domain."""
    made = [row for row in rows if row["source"] == "measured" and row["seeds"]]
    if not made:
        return []
    whole = {row["model"] for row in made if row["domain"] == ALL}
    first: dict[str, dict[str, Any]] = {}
    for row in made:
        first.setdefault(row["model"] if row["model"] in whole else f"{row['model']}, {row['domain']}", row)
    lines = [
        f"## {dataset}, cost of training (means over seeds; of memory the most)",
        "",
        "| model | seconds | CPU seconds | peak MiB | parameters | epochs | device | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in first.items():
        lines.append(
            f"| {name} | {row['train_seconds']:.1f} | {row['train_cpu_seconds']:.1f} "
            f"| {row['peak_rss_bytes'] / MIB:.0f}{SMALL if _grows(row) else ''} | {row['parameters']:,} "
            f"| {row['epochs'] or ''} | {row['device']} | {row['note'] or ''} |"
        )
    legend = "Epochs: how many were run of those that were allowed, and the best on validation, whose weights are kept."
    if any(map(_grows, first.values())):
        legend += f" {SMALL}: a training that did not ask for huge pages, whose memory grows with its length."
    return [*lines, "", legend, ""]


def _grows(row: dict[str, Any]) -> bool:
    """Whether a training (counting has no parameters) had its tensors in small pages."""
    return bool(row["parameters"]) and not row["huge_pages"]


def _failures(rows: Rows) -> list[str]:
    failed = [row for row in rows if row["status"] != "ok"]
    if not failed:
        return []
    return ["Failed:", "", *(f"- {row['model']}, {row['note']}: {row['status']}" for row in failed), ""]


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
