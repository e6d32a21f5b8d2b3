"""The validation score that training follows."""

from __future__ import annotations

from semacdr.data.dataset import Dataset
from semacdr.data.splits import Examples
from semacdr.evaluation.metrics import metric_values
from semacdr.evaluation.negatives import negative_lists
from semacdr.evaluation.protocols import get_protocol
from semacdr.evaluation.ranker import rank
from semacdr.models.base import Recommender

METRIC = "ndcg@10"


def validation_score(
    model: Recommender, examples: Examples, dataset: Dataset, protocol: str = "full"
) -> dict[str, float]:
    """Mean ndcg@10 of validation pairs, over all targets (``all``) and over those of each domain that has any.

    Args:
        model: the model as it stands.
        examples: all validation pairs of the split.
        dataset: the data.
        protocol: which items compete.
    """
    chosen = get_protocol(protocol)
    negatives = negative_lists(dataset, examples, "valid", chosen) if chosen.num_negatives is not None else None
    ranks = rank(model, examples, dataset.item_domain, chosen, negatives, train_count=model.catalogue.train_count)
    values = metric_values(ranks.greater, ranks.ties, [METRIC])[METRIC]
    domain = dataset.item_domain[examples.target]
    scores = {"all": float(values.mean()) if len(values) else 0.0}
    for index, name in enumerate(dataset.domains):
        if (domain == index).any():
            scores[name] = float(values[domain == index].mean())
    return scores
