"""LoID's plug-ins: LoRA matrices that were pre-trained on the reviews of another domain.

pretrain    trains a plug-in on a source domain's reviews; a target takes it with plugins=[PLUGIN]
similarity  how alike the reviews of the domains are, next to what plug-ins brought

example: semacdr loid pretrain --dataset data/reviews --domain all_beauty --out plugins/beauty
"""

from __future__ import annotations

import argparse
from pathlib import Path

from semacdr.commands.nested import actions_of, print_json

EXAMPLES = {
    "pretrain": """example: semacdr loid pretrain --dataset data/reviews --domain all_beauty --out plugins/beauty
         semacdr train --model LoID --dataset data/reviews --out runs/m domain=magazines plugins=[plugins/beauty]""",
    "similarity": "example: semacdr loid similarity --dataset data/reviews runs/plain runs/with-beauty",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``semacdr loid``."""
    action = actions_of(parser, EXAMPLES)
    pretrain = action("pretrain", "train a plug-in on a source domain's reviews")
    pretrain.add_argument("--dataset", required=True, type=Path, metavar="DIR", help="data set with reviews")
    pretrain.add_argument("--domain", required=True, help="the source domain")
    pretrain.add_argument(
        "--out", required=True, type=Path, metavar="PLUGIN", help="the plug-in's folder, peft's format"
    )
    pretrain.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings")
    pretrain.add_argument("settings", nargs="*", metavar="key=value", help="settings, over those of --config")
    similarity = action("similarity", "likeness of domains, and what plug-ins brought")
    similarity.add_argument("--dataset", required=True, type=Path, metavar="DIR", help="data set with reviews")
    similarity.add_argument("--encoder", help="sentence encoder: a folder or a hub name (default: the embedded one)")
    similarity.add_argument("--seed", type=int, default=0, help="of the reviews that are drawn (default: 0)")
    similarity.add_argument("--json", action="store_true", help="JSON alone on stdout")
    similarity.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="evaluated rating runs of LoID")


def run(args: argparse.Namespace) -> int:
    """Runs ``semacdr loid``."""
    return _pretrain(args) if args.action == "pretrain" else _similarity(args)


def _pretrain(args: argparse.Namespace) -> int:
    from semacdr.config import parse_pairs, read_yaml
    from semacdr.resources import find_config
    from semacdr.training.plugins import pretrain_plugin

    values = read_yaml(find_config(args.config)) if args.config else {}
    values.update(parse_pairs(args.settings))
    print(pretrain_plugin(args.dataset, args.domain, args.out, values))
    return 0


def _similarity(args: argparse.Namespace) -> int:
    from semacdr.data.dataset import Dataset
    from semacdr.embedding.encoder import SentenceEncoder
    from semacdr.evaluation.domains import gains, similarity_table
    from semacdr.local_models import EMBEDDED

    dataset = Dataset.load(args.dataset)
    table = similarity_table(dataset, SentenceEncoder(args.encoder or EMBEDDED), seed=args.seed)
    rows = gains(args.runs, table)
    if args.json:
        print_json({"similarity": table, "gains": [row.row() for row in rows]})
        return 0
    wide = max((len(name) for name in table), default=0)
    print(" " * wide + "".join(f"  {name:>{wide}}" for name in table))
    for name, cells in table.items():
        print(f"{name:{wide}}" + "".join(f"  {value:{wide}.4f}" for value in cells.values()))
    for row in rows:
        alike = ", ".join("unknown" if value is None else f"{value:.2f}" for value in row.similarity)
        print(f"{row.target} with {' & '.join(row.sources)}: similarity {alike}, mse {row.mse:.4f} ({row.gain:+.1%})")
    return 0
