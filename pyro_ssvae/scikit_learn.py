"""A scikit-learn estimator: any model of the library in ``Pipeline``, ``cross_val_score`` and ``GridSearchCV``."""

from __future__ import annotations

import io
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from .data.checks import shown
from .data.estimator_labels import are_words, as_array, as_rows, encode_labels, label_column, missing_rows
from .data.foreign_types import SparseMatrix
from .data.frames import pandas_frame, same_rows
from .data.schema import Schema
from .data.table_data import holds_words, read_features
from .data.tables import encode
from .errors import InputError
from .infer.batched import alone
from .infer.protocols import Classifies, Encodes, require
from .labels import ClassLabels
from .models import Model, create_model
from .train.fit import History, fit


class SSVAEClassifier(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, BaseEstimator):
    """A semi-supervised VAE with scikit-learn's methods: :func:`pyro_ssvae.create_model` and :func:`pyro_ssvae.fit`.

    ``fit(X, y)`` takes all rows; ``y`` is missing where it is None, NaN or ``missing_label``. ``transform`` gives the
    latents, the mean of q(z | x). A missing cell of ``X`` is NaN; where there is one in training, the encoder is also
    shown which cells are there. A data frame may have columns of words, yes and no, and dates: they are read as
    :func:`pyro_ssvae.data.read_table` reads them, and new ones by ``schema_``.

    :param model: a name in :data:`~pyro_ssvae.models.MODELS` that predicts labels.
    :param latent_dim: width of the latents. This, ``likelihood``, ``label_inference`` and ``label_prior`` are options
        of the model; None leaves its default.
    :param epochs: passes over the data; None are as many as make at least 1,000 to 2,000 steps. This, ``batch_size``,
        ``learning_rate`` and ``device`` are settings of :func:`pyro_ssvae.fit`.
    :param missing_label: what a missing label is beside None and NaN. ``"auto"``: the number -1, as in
        ``sklearn.semi_supervised``, unless -1 and 1 are all that ``y`` holds: then both are classes, and a warning
        says so; and words that mostly mean it, such as ``"nan"``, which NumPy makes of a NaN among words, with a
        warning too. None: nothing else. Any other value: this one.
    :param input_shape: shape ``(C, H, W)`` or ``(C, T)`` of a point, to which a row of ``X`` is reshaped; by default a
        row is a vector.
    :param random_state: of the weights, the rows' order and the draws. The global random numbers of NumPy, PyTorch and
        Python are left as they were.
    :param verbose: show a progress bar. Without, what training has to say of the data comes as a warning.
    :param model_options: further options of the model, a dict.
    :param fit_options: further settings of :func:`pyro_ssvae.fit`, a dict, such as ``{"class_weights": "balanced"}``.

    :ivar vae_: the trained model.
    :ivar classes_: the classes, sorted.
    :ivar history_: of the training, one entry an epoch in each column.
    :ivar schema_: what the columns of a table with words are; None of numbers alone.
    :ivar n_features_in_: the number of columns of ``X``; their names, where they have some, are ``feature_names_in_``.

    Threads take turns, since Pyro's store is a process's (``n_jobs`` starts processes).

    Example::

        search = GridSearchCV(ps.SSVAEClassifier(random_state=0), {"latent_dim": [10, 50]}).fit(X, y)  # y: -1 = missing
    """

    def __init__(
        self,
        model: str = "augmented",
        *,
        latent_dim: int | None = None,
        likelihood: str | None = None,
        label_inference: str | None = None,
        label_prior: str | tuple[float, ...] | None = None,
        epochs: int | None = None,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        device: str = "auto",
        missing_label: Any = "auto",
        input_shape: tuple[int, ...] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
        model_options: Mapping[str, Any] | None = None,
        fit_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.latent_dim = latent_dim
        self.likelihood = likelihood
        self.label_inference = label_inference
        self.label_prior = label_prior
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.missing_label = missing_label
        self.input_shape = input_shape
        self.random_state = random_state
        self.verbose = verbose
        self.model_options = model_options
        self.fit_options = fit_options

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> SSVAEClassifier:  # noqa: N803
        """Train on all rows.

        :raises InputError: points, labels or options that cannot be used; a ValueError.
        """
        if y is None:
            raise InputError(
                "SSVAEClassifier requires y to be passed, but the target y is None; -1, None or NaN is a missing label"
            )
        same_rows(X, y)
        with nullcontext() if self.verbose else lines_as_warnings():
            x = self.points(X, reset=True)
        self.classes_, codes = encode_labels(label_column(y), len(x), self.missing_label)
        seed = int(check_random_state(self.random_state).randint(2**31))
        with random_numbers_kept():
            torch.manual_seed(seed)
            self.vae_: Model = self.create(x)
            require(self.vae_, Classifies)
            self.history_: History = self.train(self.vae_, x, codes, seed)
        self.vae_.to("cpu")
        self._n_features_out = len(self.transform_rows(x[:1])[0])
        return self

    def create(self, x: torch.Tensor) -> Model:
        """Return the model for points like these, its weights at random."""
        options = {
            name: value
            for name in ("latent_dim", "likelihood", "label_inference", "label_prior")
            if (value := getattr(self, name)) is not None
        }
        options |= {"missing": True} if x.is_floating_point() and bool(x.isnan().any()) else {}
        if self.schema_ is not None:
            options |= {"columns": self.schema_.kinds, "missing": True, "schema": self.schema_}
        labels = ClassLabels([str(name) for name in self.classes_])
        need_dict("model_options", self.model_options)
        own = dict(self.model_options or {})
        return create_model(self.model, input_shape=tuple(x.shape[1:]), labels=labels, **{**options, **own})

    def train(self, vae: Model, x: torch.Tensor, codes: NDArray[np.int64], seed: int) -> History:
        """Train the model and return the history."""
        settings: dict[str, object] = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "device": self.device,
            "seed": seed,
            "progress": self.verbose,
        }
        need_dict("fit_options", self.fit_options)
        with nullcontext() if self.verbose else lines_as_warnings():
            return fit(vae, x, torch.from_numpy(codes), **{**settings, **dict(self.fit_options or {})})

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:  # noqa: N803
        """q(y | x): ``[N, K]`` in the order of ``classes_``."""
        check_is_fitted(self)
        x = self.points(X)
        with random_numbers_kept():
            return np.asarray(require(self.vae_, Classifies).predict_proba(x).numpy())

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """The most probable classes ``[N]``, in the words of ``y``."""
        best = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[best])

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:  # noqa: N803
        """The latents: the mean of q(z | x), ``[N, D]``; of the model ``classifier`` its features."""
        check_is_fitted(self)
        return self.transform_rows(self.points(X))

    def transform_rows(self, x: torch.Tensor) -> NDArray[np.float32]:
        """The latents of checked points."""
        with random_numbers_kept():
            return np.asarray(require(self.vae_, Encodes).encode(x).mean.numpy())

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:  # noqa: N803
        """The accuracy on the rows whose label is known."""
        check_is_fitted(self)
        same_rows(X, y)
        given, predicted = label_column(y), self.predict(X)
        weights = np.ones(len(predicted)) if sample_weight is None else np.asarray(sample_weight)
        for name, column in (("y", given), ("sample_weight", weights)):
            if column.shape != predicted.shape:
                rows = f"X has {len(predicted)} rows"
                raise InputError(f"{name}: shape {list(column.shape)}, but {rows}; one value a row is needed")
        known = ~missing_rows(given, self.missing_label, set(self.classes_))
        if not known.any():
            raise InputError("y: no label is known; there is nothing to compare with")
        kinds = ["words" if are_words(label) else "numbers" for label in (given[known][0], self.classes_[0])]
        if kinds[0] != kinds[1]:
            raise InputError(f"y: labels are {kinds[0]}, but fit saw {kinds[1]}, such as {self.classes_[0]}")
        return float(np.average(predicted[known] == given[known], weights=checked_weights(weights, known)))

    def points(self, X: ArrayLike, reset: bool = False) -> torch.Tensor:  # noqa: N803
        """Return checked points ``[N, *input_shape]``; NaN is a missing cell.

        :param reset: note the features' number and names, and what a table's columns are, else compare with them.
        """
        shape = checked_shape(self.input_shape)
        if reset:
            self.schema_: Schema | None = None
        X = X if (table := pandas_frame(X)) is None else table  # noqa: N806
        if isinstance(X, pd.DataFrame):
            if X.columns.has_duplicates:
                twice = shown(str(X.columns[X.columns.duplicated()][0]))
                raise InputError(f"X: two columns are named {twice}; each needs a name of its own")
            if self.schema_ is not None or (reset and not shape and holds_words(X)):
                return self.rows(X, reset)
        if self.schema_ is not None:
            raise InputError("X: fit saw a table with words; a DataFrame with the same columns is needed")
        if isinstance(X, Mapping) and not issparse(X):
            raise InputError("X: a dict that is no table; an array, a DataFrame or a list of records is needed")
        X = as_rows(as_array(X), shape)  # noqa: N806
        pixels = len(shape) == 3 and has_bytes(X)
        with words_refused():
            checked: Any = validate_data(
                self,
                X,
                reset=reset,
                accept_sparse=True,
                dtype=np.uint8 if pixels else [np.float64, np.float32],
                ensure_all_finite="allow-nan",
                ensure_min_samples=2 if reset else 1,
            )
        rows = np.array(checked.toarray() if issparse(checked) else checked)  # a copy: tensors need memory of their own
        if shape and np.prod(shape) != rows.shape[1]:
            raise InputError(f"X: {rows.shape[1]} features; input_shape {list(shape)} needs {np.prod(shape)}")
        return torch.from_numpy(rows.reshape(len(rows), *(shape or rows.shape[1:])))

    def rows(self, frame: pd.DataFrame, reset: bool) -> torch.Tensor:
        """Return the rows of a table with words, dates or yes and no, ``[N, D]``."""
        validate_data(self, frame, reset=reset, skip_check_array=True)
        if self.schema_ is None:
            self.schema_, x = read_features(frame)
            return x
        with nullcontext() if self.verbose else lines_as_warnings():
            return encode(frame, self.schema_)[0]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def checked_shape(shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape of a point, empty for a vector of any width."""
    if shape is None:
        return ()
    if not isinstance(shape, (tuple, list)) or not 1 <= len(shape) <= 3 or not all(int(n) == n >= 1 for n in shape):
        raise InputError(f"input_shape: {shape!r}; (D,), (C, T) or (C, H, W) is needed")
    return tuple(int(n) for n in shape)


def need_dict(name: str, options: object) -> None:
    """Raise :class:`InputError` where further options are no dict."""
    if options is not None and not isinstance(options, Mapping):
        raise InputError(f"{name}: {options!r}; a dict of options is needed")


def checked_weights(weights: np.ndarray, known: np.ndarray) -> NDArray[np.float64]:
    """Return the weights of the rows whose label is known."""
    if weights.dtype.kind not in "biuf" or not (np.isfinite(weights) & (weights >= 0)).all():
        raise InputError("sample_weight: numbers of at least 0 are needed, one a row")
    if not weights[known].any():
        raise InputError("sample_weight: 0 in each row whose label is known; one above 0 is needed")
    return weights[known].astype(np.float64)


def has_bytes(x: object) -> bool:
    """Whether an array, a sparse matrix or all columns of a table are uint8."""
    if isinstance(x, pd.DataFrame):
        return all(dtype == np.uint8 for dtype in x.dtypes)
    return isinstance(x, (np.ndarray, SparseMatrix)) and x.dtype == np.uint8


@contextmanager
def words_refused() -> Iterator[None]:
    """Say of words and dates where numbers are needed what takes them."""
    try:
        yield
    except (TypeError, ValueError) as error:
        dates = isinstance(error, np.exceptions.DTypePromotionError)
        if not dates and "could not convert string" not in str(error):
            raise
        raise InputError(
            f"X: {'dates beside numbers' if dates else error}; words and dates need a DataFrame in fit, such as a "
            "transformer gives after set_output(transform='pandas'), and no input_shape"
        ) from None


@contextmanager
def lines_as_warnings() -> Iterator[None]:
    """Turn lines on stderr that begin with ``fit:`` or ``note:`` into warnings, which can be filtered."""
    text = io.StringIO()
    try:
        with redirect_stderr(text):
            yield
    finally:
        for line in text.getvalue().splitlines():
            if line.startswith(("fit: ", "note: ")):
                warnings.warn(line, UserWarning, stacklevel=6)
            else:
                print(line, file=sys.stderr)


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """The global random numbers of NumPy, Python and PyTorch are afterwards as they were; threads take turns."""
    with alone():
        states = np.random.get_state(), random.getstate()  # noqa: NPY002
        try:
            with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
                yield
        finally:
            np.random.set_state(states[0])  # noqa: NPY002
            random.setstate(states[1])


__all__ = ["SSVAEClassifier"]
