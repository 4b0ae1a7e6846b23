"""The scikit-learn estimator: scikit-learn's own checks, labels by any words, and scikit-learn's tools around it."""

from __future__ import annotations

import pickle
import random
import re
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from data_makers import refused
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, load_iris, make_blobs
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import pyro_ssvae as ps
from pyro_ssvae.infer.protocols import Classifies, require
from pyro_ssvae.scikit_learn import SSVAEClassifier

DOCS = Path(__file__).parents[1] / "docs" / "scikit_learn.md"


def small(**options: Any) -> SSVAEClassifier:
    """An estimator that trains in a tenth of a second."""
    return SSVAEClassifier(**{"epochs": 12, "latent_dim": 4, "batch_size": 64, "random_state": 0, **options})


@pytest.fixture(autouse=True)
def no_remarks() -> Any:
    """Few steps leave latents unused, which training remarks on; any other warning is one too many."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "fit: ")
        yield


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    x, y = make_blobs(150, centers=3, n_features=4, cluster_std=1.0, random_state=1)
    return x, y


@parametrize_with_checks([SSVAEClassifier(epochs=5, latent_dim=4, batch_size=64)])
def test_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def test_it_is_what_create_model_and_fit_are(blobs: Any) -> None:
    x, y = blobs
    y = np.where(np.arange(150) < 40, y, -1)
    model = small(random_state=3, model_options={"beta": 0.5}, fit_options={"average": 0.9}).fit(x, y)
    seed = int(np.random.RandomState(3).randint(2**31))
    torch.manual_seed(seed)
    options: dict[str, Any] = {"latent_dim": 4, "beta": 0.5}
    vae = ps.create_model("augmented", input_shape=4, labels=ps.ClassLabels(3), **options)
    history = ps.fit(vae, x, y, epochs=12, batch_size=64, seed=seed, average=0.9, progress=False)
    np.testing.assert_array_equal(model.predict_proba(x), require(vae, Classifies).predict_proba(x).numpy())
    assert model.history_["loss"] == history["loss"]
    assert model.transform(x).shape == (150, 4)
    assert model.vae_.config.beta == 0.5  # type: ignore[attr-defined]


def test_default_epochs_are_those_of_fit(blobs: Any, monkeypatch: Any) -> None:
    from pyro_ssvae import scikit_learn

    seen: dict[str, Any] = {}

    def noted(*data: Any, **settings: Any) -> Any:
        seen.update(settings)
        return ps.fit(*data, **{**settings, "epochs": 1})

    monkeypatch.setattr(scikit_learn, "fit", noted)
    SSVAEClassifier(random_state=0).fit(*blobs)
    default = ps.FitSettings()
    assert {name: getattr(default, name) for name in seen if name not in ("seed", "progress")} == {
        name: value for name, value in seen.items() if name not in ("seed", "progress")
    }


WORDS = np.array(["ape", "bee", "cow"], dtype=object)


@pytest.mark.parametrize("kind", ["none", "nan", "NA", "floats", "categorical", "ints"])
def test_a_missing_label_is_none_or_nan_or_minus_one(blobs: Any, kind: str) -> None:
    x, classes = blobs
    known = np.arange(150) % 4 == 0
    words = WORDS[classes]
    given: Any = {
        "none": np.where(known, words, None),
        "nan": pd.Series(np.where(known, words, np.nan)),
        "NA": pd.Series(words, dtype="string").where(known, pd.NA),
        "floats": np.where(known, classes + 5.0, np.nan),
        "categorical": pd.Series(words).where(known).astype("category"),
        "ints": np.where(known, classes, -1),
    }[kind]
    model = small().fit(x, given)
    reference = small().fit(x, np.where(known, classes, -1))
    wanted: Any = {"floats": [5.0, 6.0, 7.0], "ints": [0, 1, 2]}.get(kind, ["ape", "bee", "cow"])
    assert model.classes_.tolist() == wanted
    assert len(model.vae_.labels.names) == 3  # type: ignore[union-attr]
    np.testing.assert_array_equal(model.predict_proba(x), reference.predict_proba(x))
    assert set(model.predict(x)) <= set(wanted)
    assert model.score(x, given) == reference.score(x[known], classes[known])


def test_nan_that_numpy_made_a_word_of_is_missing_and_said(blobs: Any) -> None:
    x, classes = blobs
    given = np.array(["cat", "dog", np.nan])[classes]
    assert given.dtype.kind == "U"
    with pytest.warns(UserWarning, match="'nan' is taken as a missing label; missing_label=None"):
        assert small().fit(x, given).classes_.tolist() == ["cat", "dog"]
    assert small(missing_label=None).fit(x, given).classes_.tolist() == ["cat", "dog", "nan"]
    assert small(missing_label="dog").fit(x, given).classes_.tolist() == ["cat", "nan"]


def test_minus_one_beside_0_and_1_is_missing_and_said_where_most_are_known(blobs: Any) -> None:
    """As feelings are coded: it may be a class. Where most labels are missing, nothing is said."""
    x, classes = blobs
    feelings = classes - 1
    with pytest.warns(UserWarning, match=r"y: -1 \(50 rows\) is taken as a missing label; missing_label=None"):
        assert small().fit(x, feelings).classes_.tolist() == [0, 1]
    few = np.where(np.arange(150) % 4 == 0, feelings, -1)
    assert small().fit(x, few).classes_.tolist() == [0, 1]  # another warning would be an error
    assert small(missing_label=None).fit(x, feelings).classes_.tolist() == [-1, 0, 1]


def test_a_class_that_may_mean_a_missing_label_is_said(blobs: Any) -> None:
    x, classes = blobs
    given = np.array([0, 1, -999])[classes]
    with pytest.warns(UserWarning, match=r"y: '-999' is taken for a class; missing_label says what"):
        assert small().fit(x, given).classes_.tolist() == [-999, 0, 1]
    assert small(missing_label=-999).fit(x, given).classes_.tolist() == [0, 1]
    assert small(missing_label=None).fit(x, given).classes_.tolist() == [-999, 0, 1]


def test_minus_one_and_one_alone_are_two_classes(blobs: Any) -> None:
    x, classes = blobs
    signs = np.where(classes == 0, -1, 1)
    with pytest.warns(UserWarning, match="both are classes; missing_label=-1 makes -1"):
        model = small(epochs=20).fit(x, signs)
    assert model.classes_.tolist() == [-1, 1]
    assert model.score(x, signs) > 0.95  # without a warning: the classes are known
    assert small(missing_label=None).fit(x, signs).classes_.tolist() == [-1, 1]
    assert small(missing_label=-1).fit(x, signs).classes_.tolist() == [1]
    with pytest.raises(ps.InputError, match="no label is known"):
        small().fit(x, np.full(150, -1))


def test_unlabelled_rows_are_learnt_from() -> None:
    x, y = load_digits(return_X_y=True)
    y = np.where(np.arange(len(y)) < 600, y, -1)
    one = small(epochs=1).fit(x, y).transform(x[:5])
    alone = small(epochs=1).fit(x[:600], y[:600]).transform(x[:5])
    assert abs(one - alone).max() > 1e-3


def test_the_classifier_knows_iris_by_15_labels_and_nan_cells() -> None:
    """Margin: 0.90 to 0.97 over seeds 0 to 4; a model that never sees the gaps, or the labels, has a third."""
    x, y = load_iris(return_X_y=True)
    rng = np.random.default_rng(0)
    x[rng.random(x.shape) < 0.1] = np.nan
    y_few = np.full(150, -1)
    rows = np.concatenate([np.flatnonzero(y == k)[:5] for k in range(3)])
    y_few[rows] = y[rows]
    model = small(epochs=100, fit_options={"weight_decay": 0.0}).fit(x, y_few)
    assert model.vae_.config.missing
    assert model.score(x, y) > 0.8
    assert np.isfinite(model.transform(x)).all()
    assert not small(epochs=1).fit(x[~np.isnan(x).any(1)], y[~np.isnan(x).any(1)]).vae_.config.missing


def test_pipelines_searches_and_calibration(blobs: Any) -> None:
    x, y = blobs
    few = np.where(np.arange(150) % 3 == 0, y, -1)
    pipeline = make_pipeline(StandardScaler(), small(epochs=20))
    scores = cross_val_score(pipeline, x, few, cv=3)
    assert scores.shape == (3,)
    assert scores.mean() > 0.9
    search = GridSearchCV(small(), {"latent_dim": [2, 3], "model_options": [None, {"beta": 2.0}]}, cv=2).fit(x, few)
    assert set(search.best_params_) == {"latent_dim", "model_options"}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.transform(x).shape == (150, search.best_params_["latent_dim"])
    fitted = small(epochs=20).fit(x, few)
    for calibrated in (CalibratedClassifierCV(FrozenEstimator(fitted)), CalibratedClassifierCV(small(), cv=2)):
        proba = calibrated.fit(x, y).predict_proba(x)
        np.testing.assert_allclose(proba.sum(1), 1, atol=1e-6)
        assert (proba.argmax(1) == y).mean() > 0.9


def test_names_of_columns_and_of_latents(blobs: Any) -> None:
    x, y = blobs
    frame = pd.DataFrame(x, columns=["a", "b", "c", "d"], index=range(5, 155))
    model = small().set_output(transform="pandas").fit(frame, pd.Series(y, index=frame.index))
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert model.n_features_in_ == 4
    names = [f"ssvaeclassifier{i}" for i in range(4)]
    assert model.get_feature_names_out().tolist() == names
    latents = model.transform(frame)
    assert latents.columns.tolist() == names
    assert latents.index.tolist() == frame.index.tolist()
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a", "c", "d"]])


def test_clones_pickles_and_sparse_rows(blobs: Any) -> None:
    x, y = blobs
    model = small(model_options={"beta": 0.5}).fit(x, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "vae_")
    np.testing.assert_array_equal(copy.fit(csr_matrix(x), y).predict_proba(csr_matrix(x)), model.predict_proba(x))
    assert small(random_state=None).fit(x, y).predict_proba(x).tolist() != model.predict_proba(x).tolist()


def test_global_random_numbers_stay_as_they_were(blobs: Any) -> None:
    np.random.seed(5)  # noqa: NPY002
    random.seed(6)
    torch.manual_seed(7)
    before = [np.random.random(), random.random(), torch.rand(()).item()]  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    random.seed(6)
    torch.manual_seed(7)
    model = small().fit(*blobs)
    model.predict_proba(blobs[0])
    assert [np.random.random(), random.random(), torch.rand(()).item()] == before  # noqa: NPY002


@pytest.mark.parametrize("name", ["classifier", "m1", "m2", "m1+m2", "adgm", "mvae", "diva", "revae"])
def test_every_model_that_classifies(blobs: Any, name: str) -> None:
    x, y = blobs
    model = small(model=name, epochs=3, latent_dim=6).fit(x, np.where(np.arange(150) % 2, y, -1))
    np.testing.assert_allclose(model.predict_proba(x).sum(1), 1, atol=1e-5)
    assert model.transform(x).shape == (150, len(model.get_feature_names_out()))


def test_pictures_are_rows_that_are_reshaped() -> None:
    x = (load_digits().images[:100] / 16).astype(np.float64)
    y = load_digits().target[:100]
    model = small(epochs=2, input_shape=(1, 8, 8)).fit(x.reshape(100, 64), y)
    assert model.vae_.input_shape == (1, 8, 8)
    eight = np.rint(x * 255).astype(np.uint8).reshape(100, 64)
    bytes_ = small(epochs=2, input_shape=(1, 8, 8), likelihood="bernoulli").fit(eight, y)
    floats = bytes_.predict_proba(eight / 255)  # the same pixels
    np.testing.assert_allclose(bytes_.predict_proba(eight), floats, atol=1e-6)
    for same in (pd.DataFrame(eight), csr_matrix(eight), torch.from_numpy(eight)):
        np.testing.assert_array_equal(bytes_.predict_proba(same), bytes_.predict_proba(eight))


def test_pictures_may_have_their_axes() -> None:
    x, y = np.random.default_rng(0).random((40, 4, 6)).astype(np.float32), np.arange(40) % 2
    rows = small(epochs=1, input_shape=(1, 4, 6), random_state=0).fit(x.reshape(40, 24), y)
    for pictures in (x, x[:, None], x[..., None], torch.tensor(x)):
        np.testing.assert_array_equal(rows.predict_proba(pictures), rows.predict_proba(x.reshape(40, 24)))
    refused(lambda: small().fit(x, y), "X: shape [40, 4, 6]", "input_shape=(1, 4, 6)")
    colour = np.random.default_rng(1).random((40, 3, 4, 6)).astype(np.float32)
    rows = small(epochs=1, input_shape=(3, 4, 6), random_state=0).fit(colour.reshape(40, 72), y)
    last = np.moveaxis(colour, 1, -1)
    for pictures in (colour, last):
        np.testing.assert_array_equal(rows.predict_proba(pictures), rows.predict_proba(colour.reshape(40, 72)))
        refused(lambda pictures=pictures: small().fit(pictures, y), "rows [N, D]", "input_shape=(3, 4, 6)")
    refused(lambda: small(input_shape=(3, 6, 4)).fit(last, y), "X: shape [40, 4, 6, 3]", "input_shape=(3, 4, 6)")


def test_a_series_of_arrays_is_rows() -> None:
    x, y = np.random.default_rng(0).random((20, 3)), np.arange(20) % 2
    model = small(epochs=1, random_state=0).fit(x, y)
    np.testing.assert_array_equal(model.predict(pd.Series(list(x))), model.predict(x))


def test_labels_that_look_alike_are_said() -> None:
    x = np.random.default_rng(0).random((20, 3))
    with pytest.warns(UserWarning, match="'Dog' and 'dog' are different words"):
        assert len(small(epochs=1).fit(x, ["dog", "Dog"] * 10).classes_) == 2
    with pytest.warns(UserWarning, match="'dog' and 'dog ' are different words"):
        small(epochs=1).fit(x, ["dog", "dog ", "cat", "cat"] * 5)


def test_what_cannot_be_used_is_one_line(blobs: Any) -> None:
    x, y = blobs
    refused(lambda: small(model="augmentd").fit(x, y), "model", "did you mean 'augmented'")
    begun: list[object] = []  # nothing is trained before it is refused
    untrained = small(model="vae", fit_options={"on_epoch": begun.append})
    refused(lambda: untrained.fit(x, y), "VAE", "predicts no labels")
    assert not begun
    refused(lambda: small(model_options={"betta": 1.0}).fit(x, y), "betta", "did you mean 'beta'")
    refused(lambda: small(fit_options={"epoch": 1}).fit(x, y), "epoch", "did you mean 'epochs'")
    refused(lambda: small(model_options=[1]).fit(x, y), "model_options: [1]; a dict")
    refused(lambda: small(fit_options=[1]).fit(x, y), "fit_options: [1]; a dict")
    refused(lambda: small(input_shape=(1, 2, 3)).fit(x, y), "X: 4 features", "[1, 2, 3]", "6")
    refused(lambda: small(input_shape="1x2").fit(x, y), "input_shape", "(C, H, W)")
    refused(lambda: small().fit(x, y[:10]), "y: 10 rows", "150")
    refused(lambda: small().fit(x, np.stack([y, y], 1)), "y", "[150, 2]", "[N]")
    refused(lambda: small().fit(x, [*WORDS[y][:149], 3]), "y: row 149 is 3", "one kind")
    several = np.array([None, *(frozenset([int(k), 5]) for k in y[1:])], dtype=object)
    refused(lambda: small().fit(x, several), "y: row 1 is", "a frozenset", "a word or a number")
    pairs = np.empty(150, dtype=object)
    pairs[:] = [(int(k), 1) for k in y]
    refused(lambda: small().fit(x, pairs), "y: row 0 is (0, 1), a tuple", "a word or a number")
    refused(lambda: small().fit(x, None), "requires y")
    with pytest.raises(ValueError, match="Unknown label type"):
        small().fit(x, y + 0.5)
    refused(lambda: small().fit(x, y).score(x, np.full(150, -1)), "no label is known")


def test_the_search_of_the_documentation_runs() -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S) if "optuna" in block)
    code = code.replace("n_trials=10", "n_trials=2").replace("epochs=20", "epochs=1").replace("cv=3", "cv=2")
    found: dict[str, Any] = {}
    exec(code, found)
    assert len(found["study"].trials) == 2
    assert set(found["study"].best_params) == {"latent_dim", "lr"}


MISSING_ROWS = np.arange(150) % 5 == 0


@pytest.mark.parametrize(
    "kind",
    [
        lambda y: pd.Series(y, dtype="Int64").mask(MISSING_ROWS),
        lambda y: pd.array(np.where(MISSING_ROWS, None, y), dtype="Int64"),
        lambda y: np.ma.array(y, mask=MISSING_ROWS),
    ],
    ids=["Int64", "pd.array", "masked"],
)
def test_whole_numbers_with_gaps_stay_whole_and_gaps_are_missing(blobs: Any, kind: Any) -> None:
    x, y = blobs
    labels = kind(y + 2**60)  # beyond what floats tell apart
    model = small().fit(x, labels)
    assert model.classes_.tolist() == [2**60, 2**60 + 1, 2**60 + 2]
    expected = small().fit(x, np.where(MISSING_ROWS, None, y)).predict_proba(x)
    np.testing.assert_array_equal(model.predict_proba(x), expected)
    assert model.score(x, labels) == np.mean((model.predict(x) == y + 2**60)[~MISSING_ROWS])


def test_masked_cells_are_missing_and_tensors_are_arrays(blobs: Any) -> None:
    x, y = blobs
    hidden = x > 5
    model = small().fit(np.ma.array(x, mask=hidden), y)
    expected = small().fit(np.where(hidden, np.nan, x), y)
    np.testing.assert_array_equal(
        model.predict_proba(np.ma.array(x, mask=hidden)), expected.predict_proba(np.where(hidden, np.nan, x))
    )
    tensor = torch.from_numpy(x)
    for same in (tensor.requires_grad_(), tensor.detach().to_sparse()):
        np.testing.assert_array_equal(model.predict_proba(same), model.predict_proba(x))
    rough = tensor.detach().bfloat16()
    np.testing.assert_array_equal(model.predict_proba(rough), model.predict_proba(rough.double().numpy()))
    np.testing.assert_array_equal(small().fit(x, torch.from_numpy(y)).classes_, [0, 1, 2])


def test_minus_one_and_one_as_words_are_two_classes_too(blobs: Any) -> None:
    x, y = blobs
    with pytest.warns(UserWarning, match="missing_label='-1' makes"):
        model = small().fit(x, np.where(y > 0, "1", "-1"))
    assert model.classes_.tolist() == ["-1", "1"]
    assert small(missing_label=pd.NA).fit(x, np.where(y > 0, 1, -1)).classes_.tolist() == [-1, 1]


def test_a_score_compares_what_can_be_compared(blobs: Any) -> None:
    x, y = blobs
    model = small().fit(x, y)
    refused(lambda: model.score(x, y[:5]), "y: shape [5]", "150 rows")
    refused(lambda: model.score(x, y, sample_weight=np.ones(5)), "sample_weight: shape [5]")
    refused(lambda: model.score(x, y.astype(str)), "labels are words", "fit saw numbers")
    refused(lambda: small().fit(x, WORDS[y]).score(x, y), "labels are numbers", "fit saw words")
    for wrong in (-np.ones(150), np.full(150, np.nan), np.full(150, "a")):
        refused(lambda wrong=wrong: model.score(x, y, wrong), "sample_weight: numbers of at least 0")
    partly = np.where(np.arange(150) < 75, -1, y)
    refused(lambda: model.score(x, partly, partly < 0), "sample_weight: 0 in each row whose label is known")
    weights = np.arange(150)
    assert model.score(x, y, weights) == pytest.approx(np.average(model.predict(x) == y, weights=weights))


def test_a_search_over_numbers_of_numpy(blobs: Any) -> None:
    x, y = blobs
    grid = {"latent_dim": np.arange(2, 5, 2), "epochs": np.array([2]), "learning_rate": np.logspace(-3, -2, 1)}
    search = GridSearchCV(small(), grid, cv=2, error_score="raise").fit(x, y)
    assert search.best_params_["latent_dim"] in (2, 4)


def test_threads_take_turns(blobs: Any) -> None:
    x, y = blobs
    expected = cross_val_score(small(), x, y, cv=3)
    with joblib.parallel_backend("threading"):
        np.testing.assert_array_equal(cross_val_score(small(), x, y, cv=3, n_jobs=3, error_score="raise"), expected)


def worded(n: int = 120) -> tuple[pd.DataFrame, np.ndarray]:
    """A table whose words tell the class, with a gap in each column, and its labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    frame = pd.DataFrame(
        {
            "age": rng.normal(50, 10, n) + 5 * y,
            "job": np.array(["cook", "smith"])[y],
            "town": pd.Categorical(rng.choice(["Ulm", "Bonn", "Kiel"], n)),
            "smokes": rng.choice(["yes", "no"], n),
            "seen": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
        }
    )
    for i, name in enumerate(frame):
        frame.loc[i, name] = None
    return frame, np.array(["ill", "well"])[y]


def test_a_table_with_words_yes_and_no_dates_and_gaps() -> None:
    frame, y = worded()
    some = np.where(np.arange(len(y)) < 40, y, np.array(None))
    model: Any = small(epochs=60).fit(frame, some)
    assert model.schema_.kinds == ("normal", "bernoulli", "categorical:3", "bernoulli", "normal")
    assert model.vae_.likelihood.kind == "mixed"
    assert list(model.feature_names_in_) == ["age", "job", "town", "smokes", "seen"]
    assert model.n_features_in_ == 5
    assert model.score(frame, y) > 0.9  # the job is the class: a model blind to words has .69
    x, _, _ = ps.data.encode(frame, model.schema_)
    np.testing.assert_array_equal(model.predict_proba(frame), model.vae_.predict_proba(x).numpy())
    arrow = pa.Table.from_pandas(frame)  # another library's
    np.testing.assert_array_equal(model.predict_proba(arrow), model.predict_proba(frame))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(frame.iloc[:7]), model.predict_proba(frame.iloc[:7]))
    folds = cross_val_score(make_pipeline(small(epochs=2)), frame, y, cv=3)
    assert np.isfinite(folds).all()


def test_a_table_unlike_that_of_training() -> None:
    frame, y = worded()
    model = small(epochs=2).fit(frame, y)
    gone, new = frame.assign(job=None), frame.assign(job="pilot")
    with pytest.warns(UserWarning, match="column 'job': 'pilot' not in training; missing cells"):
        found = model.predict_proba(new)
    np.testing.assert_array_equal(found, model.predict_proba(gone))
    for x in (frame.to_numpy(), np.zeros((3, 5))):
        refused(
            lambda x=x: model.predict(x), "X: fit saw a table with words; a DataFrame with the same columns is needed"
        )
    with pytest.raises(ValueError, match="now missing"):
        model.predict(frame[["age"]])
    numbers = frame[["age"]].assign(height=1.0 * np.arange(len(frame)))
    assert model.fit(numbers, y).schema_ is None  # an array of numbers, as it always was
    assert model.predict(numbers[:3]).shape == (3,)


def test_na_among_objects_is_a_gap_of_numbers_too() -> None:
    cells = np.array([pd.NA, *range(39)], dtype=object)
    model = small(epochs=1).fit(pd.DataFrame({"a": cells, "b": cells[::-1]}), np.arange(40) % 2)
    assert model.schema_ is None
    other = pd.DataFrame({"a": [None, 3.0], "b": [2.0, 1.0]})
    found = model.predict_proba(pd.DataFrame({"a": np.array([pd.NA, 3], dtype=object), "b": [2, 1]}))
    np.testing.assert_array_equal(found, model.predict_proba(other))


def test_words_and_dates_where_numbers_are_needed_are_refused_in_a_line() -> None:
    frame, y = worded()
    numbers = pd.DataFrame({"age": frame["age"], "height": 1.0 * np.arange(len(frame))})
    model = small(epochs=1).fit(numbers, y)
    for cells in (frame["job"], frame["seen"]):
        refused(lambda cells=cells: model.predict(numbers.assign(height=cells)), "X: ", "words and dates need")
    refused(lambda: small(input_shape=(1, 5, 1)).fit(frame, y), "words and dates need", "no input_shape")
    refused(lambda: small().fit(frame[["age", "job"]].to_numpy(), y), "X: ", "set_output(transform='pandas')")
    for table in (frame[["job", "town"]], numbers):
        twice = table.set_axis(["b", "b"], axis=1)
        refused(lambda twice=twice: small().fit(twice, y), "X: two columns are named 'b'")


def test_categories_that_are_numbers_are_no_amounts() -> None:
    frame, y = worded()
    codes = pd.Series(np.arange(len(y)) % 4 * 10)
    model = small(epochs=1).fit(frame.assign(town=pd.Categorical(codes)), y)
    assert model.schema_.columns[2].kind == "categorical:4"
    assert model.schema_.columns[2].words == ("0", "10", "20", "30")
    found = model.predict_proba(frame.assign(town=pd.Categorical(codes)))
    np.testing.assert_array_equal(model.predict_proba(frame.assign(town=codes * 1.0)), found)


def test_labels_in_another_order_than_the_points_are_refused(blobs: Any) -> None:
    """As by ps.fit: both have the same rows by their index, so that places would pair others."""
    x, y = blobs
    frame, labels = pd.DataFrame(x), pd.Series(y)
    model = small().fit(frame, labels)
    refused(lambda: small().fit(frame, labels[::-1]), "y.loc[x.index]")
    refused(lambda: model.score(frame, labels[::-1]), "y.loc[x.index]")
    assert model.score(frame, labels.set_axis(range(1000, 1150))) > 0.5  # another index says nothing
