"""The papers' claims as tables and figures: ``pyro-ssvae study NAME``.

A study is a grid of cells (:mod:`~.cells`, :mod:`~.plan`), computed in any order and by any number of processes
(:mod:`~.run`), read as means with intervals (:mod:`~.intervals`) into a table (:mod:`~.table`), a picture
(:mod:`~.figure`) and answers in words (:mod:`~.words`). Each study is a file of its own.
"""

from . import ablation, anomaly, label_characteristics, labels_and_bound, semi_unsupervised, sparse_labels, transfer
from .plan import Plan, Study

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (
        sparse_labels, ablation, labels_and_bound, anomaly, semi_unsupervised, transfer, label_characteristics
    )
}  # fmt: skip

__all__ = ["STUDIES", "Plan", "Study"]
