"""Evaluation: protocols, ranks, metrics, intervals and the files of a run's results."""
