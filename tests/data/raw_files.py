"""Tiny raw data of our own in every published form."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from semacdr.data.convert import convert
from semacdr.data.dataset import Dataset
from semacdr.data.filters import Filters
from semacdr.data.readers import ReadOptions

DAY = 86_400


def put(path: Path, text: str | bytes) -> Path:
    """Writes a file, packed where its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def json_lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def abxi(folder: Path) -> Path:
    """Users A (4 events, two days) and B (3); within day 2 the order is not the items' order."""
    put(folder / "sequences.txt.gz", f"0 1|{DAY} 3|{DAY} 4|{2 * DAY} 2|{2 * DAY}\n1 3|{DAY} 1|{2 * DAY} 3|{3 * DAY}\n")
    names = [("tea-1", "tea"), ("tea-2", "tea"), ("pan-1", "pans"), ("pan-2", "pans")]
    items = [
        {"idx": at, "item": item, "domain": domain, "title": f"The {item}"}
        for at, (item, domain) in enumerate(names, 1)
    ]
    items[1]["title"] = None
    put(folder / "items.jsonl.gz", json_lines(*items))
    put(folder / "users.jsonl.gz", json_lines({"idx": 0, "user": "A"}, {"idx": 1, "user": "B"}))
    return folder


def urllm(folder: Path) -> Path:
    """User 0 trains with two targets, user 1 has one validation and user 2 one test target."""
    put(folder / "train_F2.txt.gz", "0\t2\t0|0|0\t2|1|1\t3|2|2\t\n0\t2\t0|0|0\t2|1|1\t1|2|2\t\n")
    put(folder / "valid_F2.txt.gz", "1\t1\t2|0|0\t0|1|1\t\n")
    put(folder / "test_F2.txt.gz", "2\t3\t1|0|0\t3|1|1\t1|2|2\t2|3|3\t\n")
    rows = [
        {"idx": at, "domain": "art" if at < 2 else "office", "title": f"t{at}", "category_brand_text": "x y"}
        for at in range(4)
    ]
    put(folder / "items.jsonl.gz", json_lines(*rows))
    put(folder / "users.txt.gz", "ANN\t0\nBOB\t1\nCAT\t2\n")
    put(folder / "model_input_traindata.txt", "not read")
    return folder


def s3rec(folder: Path) -> Path:
    """P buys in both domains, Q in one; item X stands in both domains."""
    for domain, users, items, lines in (
        ("rugs", {"1": "P", "2": "Q"}, {"1": "X", "2": "R2"}, "1 1 2 1\n2 2 1\n"),
        ("pens", {"1": "P"}, {"1": "X", "2": "N2"}, "1 2 1\n"),
    ):
        put(folder / f"{domain}.datamaps.json.gz", json.dumps({"id2user": users, "id2item": items}))
        put(folder / f"{domain}.sequential.txt.gz", lines)
    put(folder / "rugs.items.jsonl.gz", json_lines({"item": "R2", "domain": "rugs", "title": "A  rug", "price": 3.5}))
    return folder


def movielens(folder: Path) -> Path:
    """Three films in GroupLens' form; user 7's two ratings of one second keep the file's order."""
    flags = {"fight": "0|1" + "|0" * 17, "talk": "0" * 1 + "|0" * 7 + "|1" + "|0" * 10, "none": "1" + "|0" * 18}
    rows = [
        f"1|Café Fight, The (1994)|01-Jan-1994||url|{flags['fight']}",
        f"2|Long Talk (Parole, La) (1980)|01-Jan-1980||url|{flags['talk']}",
        f"3|unknown||||{flags['none']}",
    ]
    put(folder / "u.item", "\n".join(rows).encode("latin-1") + b"\n")
    put(folder / "u.data", "7\t2\t3\t500\n8\t3\t1\t100\n7\t1\t5\t500\n7\t3\t4\t20\n")
    return folder


def table(folder: Path) -> Path:
    """Events out of time order, in milliseconds."""
    start = 1_600_000_000_000
    put(folder / "interactions.csv", f"uid,iid,ts,score\nu,a,{start + 5000},4\nu,b,{start},2.5\nv,b,{start},1\n")
    put(folder / "items.tsv.gz", 'iid\tdomain\ttitle\nb\tpens\t"Blue ""pen"""\na\ttea\tGreen tea\nc\ttea\t\n')
    return folder


def amazon(folder: Path, release: int) -> Path:
    """Two categories of one buyer and another, in the form of the release."""
    for category, item, when in (("Books", "B1", 16_010), ("Digital_Music", "M1", 16_020)):
        reviews = [(user, item, 5.0, f"review by {user}", (when + at) * DAY) for at, user in enumerate(("U1", "U2"))]
        if release == 2023:
            rows = [
                {
                    "rating": r,
                    "title": "the review's",
                    "text": t,
                    "asin": "child",
                    "parent_asin": i,
                    "user_id": u,
                    "timestamp": w * 1000,
                }
                for u, i, r, t, w in reviews
            ]
            about = {
                "parent_asin": item,
                "title": f"About {item}",
                "store": "Shop",
                "categories": ["A", "B"],
                "price": None,
            }
            put(folder / f"{category}.jsonl.gz", json_lines(*rows))
            put(folder / f"meta_{category}.jsonl.gz", json_lines(about, {"parent_asin": "unread", "title": "x"}))
            continue
        rows = [
            {"reviewerID": u, "asin": i, "overall": r, "reviewText": t, "unixReviewTime": w, "verified": True}
            for u, i, r, t, w in reviews
        ]
        if release == 2018:
            about = {
                "asin": item,
                "title": f"About {item}",
                "brand": "Shop",
                "category": ["A", "B"],
                "price": ".a-box{}",
                "description": [],
            }
            put(folder / f"{category}_5.json.gz", json_lines(*rows))
            put(folder / f"meta_{category}.json.gz", json_lines(about, about))
        else:
            about = {
                "asin": item,
                "title": f"About {item}",
                "brand": "Shop",
                "categories": [["A", "B"], ["B"]],
                "price": 2.5,
            }
            put(folder / f"reviews_{category}_5.json.gz", "".join(f"{row!r}\n" for row in rows))
            put(folder / f"meta_{category}.json.gz", f"{about!r}\n")
    return folder


def converted(folder: Path, format_name: str, source: Path, *, skip_bad: bool = False, **options: object) -> Dataset:
    """Converts and loads; options are those of the reader."""
    convert(format_name, source, folder, ReadOptions(**options), Filters(), skip_bad=skip_bad)  # type: ignore[arg-type]
    return Dataset.load(folder)


def events_of(dataset: Dataset) -> dict[str, list[str]]:
    """Item ids of each user, in order."""
    return {
        str(user): [str(dataset.item_ids[item]) for item in dataset.user_items(at)]
        for at, user in enumerate(dataset.user_ids)
    }
