"""Our models inside RecBole 1.2.1.

Importing this package makes RecBole importable beside new versions of numpy, torch and scipy (:mod:`.shim`) and adds
our models to it (:func:`.models.register`). From then on RecBole's own ``run_recbole(model="SemaCDR", ...)``,
``Config(model=SemaCDR)`` with its ``Trainer``, and ``load_data_and_model`` work as for a model of its own. A checkpoint
brings this package in by itself, so a process in which RecBole works by other means (numpy < 2, setuptools < 81, and
``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1``) can load one without importing it first.

Settings are RecBole's keys: those of the model by their names (``embedding_dim``, ``num_layers``, ``dropout``, ...)
and ``semacdr_domain_field``, ``semacdr_embeddings``, ``semacdr_user_embeddings``, ``semacdr_ids``,
``semacdr_item_texts``, ``semacdr_domain_known`` and ``semacdr_whole_sequences`` (see :mod:`.settings`). Training
settings are RecBole's own, with its defaults. ``create_dataset(config)`` sets what the user left open; who makes
RecBole's ``SequentialDataset`` by hand sets ``train_neg_sample_args: null``, ``load_col`` with the time and the domain
field, and ``MAX_ITEM_LIST_LENGTH`` equal to ``max_seq_len``.

RecBole trains on one row for each event, where our own trainer learns from a whole sequence in one pass: with
``semacdr_whole_sequences: true`` RecBole does so too, at a fraction of the time. Training over several processes
(``nproc > 1``) is not supported: RecBole's child processes would not know our models.
"""

from semacdr.recbole.shim import apply

apply()  # before any other line imports RecBole

from semacdr.recbole.evaluate import evaluate, plain_data  # noqa: E402
from semacdr.recbole.export import export  # noqa: E402
from semacdr.recbole.models import WRAPPED, RecboleModel, register  # noqa: E402
from semacdr.recbole.runner import run_recbole  # noqa: E402

register()
SemaCDR = WRAPPED["SemaCDR"]

__all__ = ["WRAPPED", "RecboleModel", "SemaCDR", "evaluate", "export", "plain_data", "run_recbole"]
