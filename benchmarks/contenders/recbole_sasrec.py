"""RecBole's SASRec with anomaly mode off: its own data set, augmentation, loader and cross-entropy; a few steps."""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from common import Clock, memory, read_job, versions

WARM_UP = 1


def write_inter(folder: Path, sequence: np.ndarray, item: np.ndarray) -> None:
    """The training events as RecBole's file. Each sequence gets two more events, which leave-one-out takes away."""
    ends = np.flatnonzero(np.r_[sequence[1:] != sequence[:-1], True])
    at = np.sort(np.concatenate([np.arange(len(item)), ends, ends]), kind="stable")
    rows = zip(sequence[at].tolist(), item[at].tolist(), range(len(at)), strict=True)
    with open(folder / "bench.inter", "w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        file.writelines(f"{user}\t{thing}\t{time}\n" for user, thing, time in rows)


def main() -> None:
    job = read_job()
    warnings.filterwarnings("ignore")
    sys.argv = sys.argv[:1]  # RecBole reads it
    from semacdr.recbole.shim import apply

    apply()  # RecBole 1.2.1 on this numpy and torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_seed

    imported = memory("VmRSS")
    arrays = np.load(job.data)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "bench"
        folder.mkdir()
        write_inter(folder, arrays["train_sequence"], arrays["train_item"])
        start = Clock.now()
        config = Config(
            model="SASRec",
            dataset="bench",
            config_dict={
                "data_path": root,
                "checkpoint_dir": root,
                "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
                "hidden_size": job.model["embedding_dim"],
                "inner_size": job.model["ffn_dim"],
                "n_layers": job.model["num_layers"],
                "n_heads": job.model["num_heads"],
                "hidden_dropout_prob": job.model["dropout"],
                "attn_dropout_prob": job.model["dropout"],
                "MAX_ITEM_LIST_LENGTH": job.model["max_seq_len"],
                "learning_rate": job.model["learning_rate"],
                "loss_type": "CE",
                "train_neg_sample_args": None,
                "use_gpu": False,
                "state": "ERROR",
                "seed": job.seed,
            },
        )
        logging.disable(logging.CRITICAL)
        init_seed(job.seed, config["reproducibility"])
        dataset = create_dataset(config)
        train, _, _ = data_preparation(config, dataset)
        model = get_model("SASRec")(config, train.dataset)
        prep = Clock.now().since(start)
    torch.autograd.set_detect_anomaly(False)  # importing RecBole's sequential models turns it on for everybody
    torch.set_num_threads(1)
    optimiser = torch.optim.Adam(model.parameters(), lr=config["learning_rate"])
    model.train()
    marks = []
    for batch in train:
        optimiser.zero_grad()
        loss = model.calculate_loss(batch.to(config["device"]))
        loss.backward()
        optimiser.step()
        marks.append(Clock.now())
        if len(marks) == WARM_UP + job.steps:
            break
    cost = marks[-1].since(marks[WARM_UP - 1])["cpu_s"] / (len(marks) - WARM_UP)
    job.write(
        {
            "versions": versions("recbole", "pandas"),
            "prep_cpu_s": prep["cpu_s"],
            "import_rss_bytes": imported,
            "peak_rss_bytes": memory(),
            "parameters": sum(p.numel() for p in model.parameters()),
            "steps_per_epoch": len(train),
            "targets_per_epoch": len(train.dataset),
            "cpu_s_per_epoch": cost * len(train),
            "measured": f"{len(marks) - WARM_UP} steps of {config['train_batch_size']} rows after {WARM_UP} of "
            f"warm-up, extrapolated to {len(train)}",
        }
    )


if __name__ == "__main__":
    main()
