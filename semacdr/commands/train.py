"""Trains a model into a run folder. A killed run goes on with the same command, to the same weights.

Settings come from the model's defaults, then --config FILE (YAML), then key=value pairs. A rating model learns how many
stars the users of one domain give, which domain=NAME says. recbole:GRU4Rec is RecBole's own GRU4Rec, trained by
RecBole's trainer with RecBole's settings; likewise its other sequential models.

example: semacdr train --model SemaCDR --dataset data/ml --embeddings emb/ml --out runs/ml epochs=20 dropout=0.2
         semacdr train --model LoID --dataset data/reviews --out runs/loid domain=magazines
         semacdr train --model recbole:GRU4Rec --dataset data/ml --out runs/gru epochs=20 hidden_size=64
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``semacdr train``."""
    parser.add_argument("--model", required=True, help="model name, for example SemaCDR, SASRec, Markov, Popularity")
    parser.add_argument("--dataset", required=True, type=Path, metavar="DIR", help="data set folder")
    parser.add_argument("--embeddings", type=Path, metavar="DIR", help="embedding table, for models that read text")
    parser.add_argument(
        "--user-embeddings", type=Path, metavar="DIR", help="embedding table of users, for models that read profiles"
    )
    parser.add_argument(
        "--ids", type=Path, metavar="DIR", help="semantic ids of the items, for models that know items by them"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings, yours or a shipped one")
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="run folder")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings, over those of --config")


def run(args: argparse.Namespace) -> int:
    """Runs ``semacdr train``."""
    from semacdr.config import parse_pairs, read_yaml
    from semacdr.errors import InputError
    from semacdr.models.recbole_own import is_own
    from semacdr.models.registry import rates
    from semacdr.resources import find_config
    from semacdr.training.rating import train_rating
    from semacdr.training.trainer import train

    values = read_yaml(find_config(args.config)) if args.config else {}
    values.update(parse_pairs(args.settings))
    if is_own(args.model):
        if args.embeddings or args.user_embeddings or args.ids:
            fix = "leave --embeddings, --user-embeddings and --ids out"
            raise InputError(f"{args.model} reads no text", fix=fix)
        from semacdr.recbole.own import train as train_own

        print(train_own(args.model, args.dataset, args.out, values))
        return 0
    if rates(args.model, values):
        tables = args.embeddings or args.user_embeddings or args.ids
        print(train_rating(args.model, args.dataset, args.out, values, tables))
        return 0
    out = train(args.model, args.dataset, args.out, args.embeddings, values, args.user_embeddings, args.ids)
    print(out)
    return 0
