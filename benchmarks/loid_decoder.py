"""A decoder that is asked for a review's stars, against an encoder that was trained to read them (LoID, table 3).

The reviews are the test parts of the domains. The decoder gets a few scored examples and is asked for a score of 1 to 5
and an explanation, through any engine of the profiling; the encoder is the sentiment regression that LoID pre-trains,
rounded. Precision, recall and F1 are means over the scores that occur; an answer without a score counts as wrong.
Answers are kept in the work folder, and a killed run goes on after the last finished batch.

    python benchmarks/loid_decoder.py --dataset data/reviews --work runs/decoder --domains magazines fashion
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loid import PLUGIN

from semacdr.data.schema import Int64Array
from semacdr.evaluation.ratings import predict
from semacdr.files import read_json, write_json
from semacdr.profiling.engines import make_engine
from semacdr.profiling.engines.base import Engine, Message, Request, Sampling
from semacdr.progress import Progress
from semacdr.rating_run import load_rating_run
from semacdr.training.plugins import pretrain_plugin

RESULTS = Path(__file__).parent / "results"
SYSTEM = (
    "You read product reviews and say how many stars, 1 to 5, the reviewer gave. 1 is the worst and 5 the best. "
    "Answer with the number first, then explain it in one sentence."
)
# Written for this purpose; none is from a data set.
EXAMPLES = (
    ("It broke on the second day and nobody answered my letters.", "1. The product failed and the service did too."),
    ("Does what it says, though the colour is duller than in the picture.", "3. It works, with a let-down."),
    ("I have given three of these away already, everybody loves them!", "5. The reviewer is delighted."),
)
SAMPLING = Sampling(max_new_tokens=24, max_sentences=2)
CUT = 600  # characters of a review that are shown
SCORE = re.compile(r"(?<![\d.])[1-5](?![\d])")
NO_SCORE = 0


def request_of(review: str) -> Request:
    turns = [Message("system", SYSTEM)]
    for text, answer in EXAMPLES:
        turns += [Message("user", f"Review: {text}\nStars:"), Message("assistant", answer)]
    return Request((*turns, Message("user", f"Review: {review[:CUT]}\nStars:")))


def score_of(answer: str) -> int:
    """The first number from 1 to 5 of an answer; 0 if it has none."""
    found = SCORE.search(answer)
    return int(found.group()) if found else NO_SCORE


def classification(truth: Int64Array, told: Int64Array) -> dict[str, Any]:
    """Accuracy, and precision, recall and F1 as means over the scores that occur in the truth."""
    precision, recall, f1 = [], [], []
    for score in np.unique(truth):
        hit = int(((told == score) & (truth == score)).sum())
        said, was = int((told == score).sum()), int((truth == score).sum())
        p, r = hit / said if said else 0.0, hit / was
        precision.append(p)
        recall.append(r)
        f1.append(2 * p * r / (p + r) if p + r else 0.0)
    return {
        "precision": float(np.mean(precision)),
        "recall": float(np.mean(recall)),
        "f1": float(np.mean(f1)),
        "accuracy": float((told == truth).mean()),
        "unparseable": int((told == NO_SCORE).sum()),
        "told": {str(score): int((told == score).sum()) for score in range(6)},
    }


def ask(engine: Engine, reviews: Sequence[str], kept: Path) -> list[str]:
    """An answer for each review; finished batches are kept."""
    answers: list[str] = read_json(kept) if kept.is_file() else []
    progress = Progress(len(reviews), "asking", "reviews", done=len(answers))
    while len(answers) < len(reviews):
        batch = [request_of(review) for review in reviews[len(answers) : len(answers) + engine.chunk]]
        found: dict[int, str] = {}
        for group in engine.generate(batch, SAMPLING):
            found.update({place: answer.text for place, answer in group.items()})
        answers += [found[place] for place in range(len(batch))]
        write_json(kept, answers)
        progress.update(len(batch))
    progress.close()
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, type=Path)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--domains", nargs="+", default=["magazines", "fashion"])
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--model", help="of the engine (default: the embedded one)")
    args = parser.parse_args()
    torch.set_num_threads(1)

    truth, regressed, reviews = [], [], []
    for domain in args.domains:
        run = load_rating_run(pretrain_plugin(args.dataset, domain, args.work / "encoders" / domain, PLUGIN))
        pairs = run.data.ratings.select(run.data.rows("test"))
        written = pairs.text > 0
        truth.append(pairs.rating[written])
        regressed.append(predict(run.model, run.data, "test")[written])
        reviews += [run.data.texts[text] for text in pairs.text[written]]
    stars = np.rint(np.concatenate(truth)).astype(np.int64)
    engine = make_engine(args.engine, args.model, batch_size=16)
    args.work.mkdir(parents=True, exist_ok=True)
    told = np.array([score_of(text) for text in ask(engine, reviews, args.work / "answers.json")], np.int64)
    write_json(
        RESULTS / "loid_decoder.json",
        {
            "domains": args.domains,
            "reviews": len(stars),
            "truth": {str(score): int((stars == score).sum()) for score in range(1, 6)},
            "decoder": {"model": engine.identity.model, **classification(stars, told)},
            "encoder, rounded": classification(stars, np.rint(np.concatenate(regressed)).astype(np.int64)),
            "always 5": classification(stars, np.full_like(stars, 5)),
        },
    )


if __name__ == "__main__":
    main()
