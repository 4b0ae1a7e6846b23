"""Data sets that need no file: scikit-learn's tables, digits of which some are rare, and simulated counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from ..labels import ClassLabels
from .dataset import Dataset
from .images import ImageSize
from .splits import split_rows
from .standard import load_digits

RARE = 5
"""Of ``imbalanced-digits``, the first so many classes are thinned."""
KEPT = 0.1
"""Share of a thinned class that is kept."""


def load_breast_cancer() -> Dataset:
    """Return scikit-learn's 569 biopsies of breast tissue, float32 ``[N, 30]``; a stratified fifth is the test.

    Classes ``malignant`` (37 %) and ``benign``. Features are in their own units.
    """
    from sklearn import datasets

    return _table("breast-cancer", datasets.load_breast_cancer())


def load_wine() -> Dataset:
    """Return scikit-learn's 178 wines of three growers, float32 ``[N, 13]``; a stratified fifth is the test."""
    from sklearn import datasets

    return _table("wine", datasets.load_wine())


def load_imbalanced_digits(*, image_size: ImageSize = None) -> Dataset:
    """Return ``digits`` with a tenth of the zeros to fours, in the training rows as in the test, the same rows always.

    Five classes are then about 2 % of the rows each, the other five 18 %.
    """
    dataset = load_digits(image_size=image_size)
    rows, rows_test = (_thinned(y, seed) for seed, y in enumerate((dataset.y, dataset.y_test)))
    return dataclasses.replace(
        dataset,
        name="imbalanced-digits",
        x=dataset.x[rows],
        y=dataset.y[rows],
        x_test=dataset.x_test[rows_test],
        y_test=dataset.y_test[rows_test],
    )


def load_counts() -> Dataset:
    """Return a simulated table of counts, as of genes in cells: float32 ``[N, 50]``, whole numbers, four classes.

    ``x_j ~ NegativeBinomial(mean l exp(a_j + b_yj + w_j·s), dispersion 2)`` with the size ``l`` of a row log-normal, a
    class's own ``b_y`` on a fifth of the columns, and two latent dimensions s that have nothing to do with the class.
    Drawn from one seed: 2,000 rows, of which a stratified fifth is the test, in classes of 40, 30, 20 and 10 %.
    """
    n, columns, shares = 2000, 50, np.array([0.4, 0.3, 0.2, 0.1])
    random = np.random.RandomState(0)  # whose numbers stay as they are in every version of NumPy
    y = random.permutation(np.repeat(np.arange(len(shares)), np.round(n * shares).astype(int)))
    marked = random.random_sample((len(shares), columns)) < 0.2
    log_mean = random.normal(size=columns) + (0.8 * marked * random.normal(size=marked.shape))[y]
    log_mean += 0.4 * random.normal(size=(n, 2)) @ random.normal(size=(2, columns)) + 0.4 * random.normal(size=(n, 1))
    x = random.poisson(random.gamma(2.0, np.exp(log_mean) / 2.0))
    return _split("counts", torch.tensor(x).float(), torch.tensor(y).long(), ClassLabels(len(shares), tuple("ABCD")))


def _table(name: str, source: dict[str, object]) -> Dataset:
    """Return one of scikit-learn's tables."""
    x, y = torch.tensor(source["data"]).float(), torch.tensor(source["target"]).long()
    names = [str(word) for word in list(source["target_names"])]  # type: ignore[call-overload]
    return _split(name, x, y, ClassLabels(len(names), names))


def _split(name: str, x: Tensor, y: Tensor, labels: ClassLabels) -> Dataset:
    """Return the data set with a stratified fifth as its test, the same rows always."""
    rows, held = split_rows(y)
    return Dataset(name, x[rows], y[rows], x[held], y[held], labels)


def _thinned(y: Tensor, seed: int) -> Tensor:
    """Return the rows that stay, in order: of each of the first classes a tenth, rounded."""
    generator = torch.Generator().manual_seed(seed)
    stays = torch.ones(len(y), dtype=torch.bool)
    for k in range(RARE):
        rows = (y == k).nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=generator)]
        stays[rows[round(KEPT * len(rows)) :]] = False
    return stays.nonzero().squeeze(1)
