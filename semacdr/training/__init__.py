"""Training: the trainer, its settings and its checkpoints."""
