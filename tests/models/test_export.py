"""Exported programs give what the models give, for any number of rows, without this library."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyro
import pyro.distributions as dist
import pytest
import torch
from data_makers import refused
from edits import FurtherDrawnM2
from pyro.distributions import transforms
from tiny import CASES, augmented, build, mostly_slow, points, tiny_decoder, tiny_encoder
from torch import Tensor, nn

from pyro_ssvae import ClassLabels, Model, create_model, export
from pyro_ssvae.models import GenerativeModel
from pyro_ssvae.models import export as exporting
from pyro_ssvae.models.conditional_decoder import ConditionalDecoder
from pyro_ssvae.nn.likelihoods import LIKELIHOODS

CLASSIFIERS = [case for case in CASES if case != "vae"]
QUICK = (
    "enumerate",
    "probabilities-attributes",
    "m1",
    "m2-attributes",
    "m1+m2",
    "adgm",
    "mvae",
    "diva",
    "revae-attributes",
)
ONNX = ("classifier", "sparse", "m1", "m2", "m1+m2", "adgm", "mvae", "diva", "revae-attributes")


def run(path: Path, *inputs: Tensor) -> list[Tensor]:
    """What a program gives, by the runtime that its ending asks for."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(path))
        named = {wanted.name: value.numpy() for wanted, value in zip(session.get_inputs(), inputs, strict=True)}
        return [torch.from_numpy(value) for value in session.run(None, named)]
    found = torch.export.load(str(path)).module()(*inputs)
    return [found] if isinstance(found, Tensor) else list(found)


def close(got: list[Tensor], wanted: list[Tensor]) -> None:
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted):
        torch.testing.assert_close(one, other.detach(), atol=1e-5, rtol=0)


def some_points(n: int = 6) -> Tensor:
    x = points(n)
    x[0, 1] = torch.nan
    return x


@pytest.mark.parametrize("case", mostly_slow(CLASSIFIERS, *QUICK))
def test_every_model_that_classifies_predicts_alike_elsewhere(tmp_path: Path, case: str) -> None:
    """As ONNX, which takes seconds to make, one of each model."""
    vae, x = build(case).eval(), some_points()
    vae.likelihood.fit(3 + 2 * points(50))  # units of its own
    path = export(vae, tmp_path / ("m.onnx" if case in ONNX else "m.pt2"))
    for rows in (x, x[:1], x[1:3]):
        close(run(path, rows), [vae.predict_proba(rows)])


@pytest.mark.parametrize("case", mostly_slow(["vae", "enumerate", "revae-attributes", "m1+m2", "adgm"], "vae", "m1+m2"))
def test_latents_and_decoded_points_too(tmp_path: Path, case: str) -> None:
    vae, x = build(case).eval(), some_points()
    assert isinstance(vae, GenerativeModel)
    vae.likelihood.fit(3 + 2 * points(50))
    encoder = export(vae, tmp_path / "encoder.pt2", what="encode")
    decoder = export(vae, tmp_path / f"decoder.{'onnx' if case == 'adgm' else 'pt2'}", what="decode")
    for rows in (x, x[:1]):
        q = vae.encode(rows)
        close(run(encoder, rows), [q.mean, q.stddev])
        z = q.sample()
        if isinstance(vae, ConditionalDecoder):
            y = torch.tensor([0, -1, 2, 1, -1, 0])[: len(rows)]
            close(run(decoder, z, y), [vae.decode(z, y)])
        else:
            close(run(decoder, z), [vae.decode(z)])


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_what_is_decoded_is_read_back_whatever_the_likelihood(tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"mixed": {"columns": ("normal", "bernoulli", "poisson")}}
    options["categorical"] = {"categories": 4}
    given = {"likelihood": name, **options.get(name, {})}
    shape = (1, 4, 4) if name == "discretized-logistic-mixture" else (3,)
    vae = create_model("m2", input_shape=shape, labels=ClassLabels(3), latent_dim=2, **given).eval()
    z, y = torch.randn(4, 2), torch.tensor([0, 1, -1, 2])
    close(run(export(vae, tmp_path / "d.pt2", what="decode"), z, y), [vae.decode(z, y)])


def test_attributes_enter_the_decoder_one_by_one(tmp_path: Path) -> None:
    vae = build("enumerate-attributes").eval()
    z, y = torch.randn(4, 2), torch.tensor([[0, 1, -1], [-1, -1, -1], [1, 1, 1], [0, 0, 0]])
    close(run(export(vae, tmp_path / "d.pt2", what="decode"), z, y), [vae.decode(z, y)])


def test_the_features_of_a_classifier(tmp_path: Path) -> None:
    vae, x = build("classifier").eval(), some_points()
    close(run(export(vae, tmp_path / "c.pt2", what="encode"), x), [vae.encode(x).mean])
    refused(lambda: export(vae, tmp_path / "c.pt2", what="decode"), "Classifier", "reconstructs nothing")


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_pictures_in_eight_bits_and_batch_normalisation(tmp_path: Path, ending: str) -> None:
    vae = create_model("m2", input_shape=(1, 12, 12), labels=ClassLabels(["a", "b"]), latent_dim=3)
    x = torch.randint(0, 256, (5, 1, 12, 12), dtype=torch.uint8)
    vae.eval()
    with torch.no_grad():
        for p in vae.parameters():
            p.add_(0.1 * torch.randn_like(p))
        for part in vae.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_()  # type: ignore[union-attr]
    path = export(vae, tmp_path / f"m.{ending}", dtype=torch.uint8)
    close(run(path, x), [vae.predict_proba(x)])  # type: ignore[operator]
    if ending == "pt2":
        close(run(export(vae, tmp_path / "f.pt2"), x / 255), [vae.predict_proba(x)])  # type: ignore[operator]


def test_an_encoder_that_sees_the_mask_and_columns_of_many_kinds(tmp_path: Path) -> None:
    columns = ("normal", "categorical:3", "bernoulli", "poisson")
    vae = create_model("augmented", input_shape=4, labels=ClassLabels(2), latent_dim=2, columns=columns, missing=True)
    x = torch.tensor([[0.3, 2.0, 1.0, 4.0], [torch.nan, 1.0, torch.nan, 0.0], [-2.0, torch.nan, 0.0, 7.0]])
    vae.prepare(x, torch.tensor([0, 1, -1]))
    vae.eval()
    with torch.no_grad():
        vae.head.weight.normal_()  # type: ignore[union-attr, operator]
    wanted = vae.predict_proba(x)  # type: ignore[operator]
    assert (wanted[1] - wanted[2]).abs().max() > 1e-3
    close(run(export(vae, tmp_path / "m.pt2"), x), [wanted])
    z = torch.randn(3, 2)
    path = export(vae, tmp_path / "d.pt2", what="decode")
    close(run(path, z, torch.tensor([0, -1, 1])), [vae.decode(z, torch.tensor([0, -1, 1]))])  # type: ignore[operator]


class Shifted(type(augmented())):  # type: ignore[misc]
    """A guide that a person has edited."""

    def q_z(self, h: Tensor) -> Any:
        q = super().q_z(h).base_dist
        return torch.distributions.Independent(torch.distributions.Normal(q.loc + 3, q.scale), 1)


def test_an_edited_guide_is_followed(tmp_path: Path) -> None:
    vae, x = augmented().eval(), some_points()
    before = vae.encode(x).mean
    vae.__class__ = Shifted
    (mean, _) = run(export(vae, tmp_path / "m.pt2", what="encode"), x)
    torch.testing.assert_close(mean, before + 3)


class FlowM1M2(type(build("m1+m2"))):  # type: ignore[misc]
    """q(z_1 | x) is a flow, whose mean is that of draws."""

    def q_z_1(self, x: Tensor) -> Any:
        return dist.TransformedDistribution(super().q_z_1(x), [transforms.TanhTransform()])


class RewrittenM2(type(build("m2"))):  # type: ignore[misc]
    """The head is told of the mean of a latent, or of a draw."""

    drawn = False

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        x, h = self.begin(x), self.features(x)
        q = dist.Normal(h[:, :3], 2.0).to_event(1)
        with self.plate(x):
            a = pyro.sample("a", q)
            y = self.infer_label(self.head(h) + (a if self.drawn else q.mean), self.targets(y, x))
            pyro.sample("z", self.q_z(h, self.class_input(y, x)))


def test_a_rewritten_guide_is_followed_and_draws_are_refused(tmp_path: Path) -> None:
    """A program would make others at each call."""
    vae, x = build("m2").eval(), some_points()
    before = vae.predict_proba(x)
    vae.__class__ = RewrittenM2
    assert (vae.predict_proba(x) - before).abs().max() > 1e-2
    close(run(export(vae, tmp_path / "m.pt2"), x), [vae.predict_proba(x)])
    vae.drawn = True
    refused(lambda: export(vae, tmp_path / "drawn.pt2"), "random draws")
    other = build("m1+m2").eval()
    other.__class__ = FlowM1M2
    refused(lambda: export(other, tmp_path / "drawn.onnx"), "random draws")
    further = FurtherDrawnM2(tiny_encoder((5,)), tiny_decoder((5,), 2, 3), ClassLabels(3), latent_dim=2).eval()
    refused(lambda: export(further, tmp_path / "drawn.pt2", what="decode"), "random draws")
    assert not list(tmp_path.glob("drawn.*"))


def test_the_file_holds_the_labels_and_no_trace_of_the_model_is_left(tmp_path: Path) -> None:
    vae = create_model("augmented", input_shape=5, labels=ClassLabels(["ape", "bee"]), latent_dim=2)
    vae.train()
    length = len
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    proto = onnx.load(export(vae, tmp_path / "m.onnx"))
    wanted = {"kind": "classes", "names": ["ape", "bee"]}
    assert json.loads({entry.key: entry.value for entry in proto.metadata_props}["labels"]) == wanted
    assert [i.name for i in proto.graph.input] == ["x"]
    assert [o.name for o in proto.graph.output] == ["probabilities"]
    extra = {"labels": ""}
    torch.export.load(export(vae, tmp_path / "m.pt2"), extra_files=extra)
    assert json.loads(extra["labels"]) == wanted
    assert len is length
    assert vae.training
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())


def test_it_runs_where_this_library_is_not(tmp_path: Path) -> None:
    vae, x = augmented().eval(), some_points()
    path = export(vae, tmp_path / "m.pt2")
    np.save(tmp_path / "x.npy", x.numpy())
    code = (
        "import sys, numpy, torch\nsys.modules['pyro'] = sys.modules['pyro_ssvae'] = None\n"
        f"x = torch.from_numpy(numpy.load({str(tmp_path / 'x.npy')!r}))\n"
        f"numpy.save({str(tmp_path / 'y.npy')!r}, torch.export.load({str(path)!r}).module()(x).detach().numpy())"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "y.npy")), vae.predict_proba(x), atol=1e-5, rtol=0)


def test_what_cannot_be_exported_is_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    vae: Model = augmented()
    refused(lambda: export(build("vae"), tmp_path / "m.onnx"), "VAE", "predicts no labels")
    refused(lambda: export(vae, tmp_path / "m.onx"), "m.onx", ".onnx or .pt2")
    refused(lambda: export(vae, tmp_path / "model"), "no ending", ".onnx")
    refused(lambda: export(vae, tmp_path / "m.pt2", what="encod"), "encod", "did you mean 'encode'")  # type: ignore[arg-type]
    refused(lambda: export(vae, tmp_path / "m.pt2", dtype=torch.float16), "float16", "uint8")
    refused(lambda: export(nn.Linear(2, 2), tmp_path / "m.pt2"), "Linear", "model of this library")  # type: ignore[arg-type]
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxscript" else find_spec(name))
    refused(lambda: export(vae, tmp_path / "m.onnx"), "onnxscript", "pip install pyro_ssvae[export]")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", ["adgm", "diva"])
def test_what_comes_out_has_a_name_that_nothing_inside_has(tmp_path: Path, case: str) -> None:
    """ADGM's encoder takes a mean, which ONNX would call as what comes out, ``mean``."""
    vae, x = build(case).eval(), some_points()
    q = vae.encode(x)
    close(run(export(vae, tmp_path / "encoder.onnx", what="encode"), x), [q.mean, q.stddev])


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_a_model_in_double_precision_is_exported_in_single(tmp_path: Path, ending: str) -> None:
    vae, x = build("m2").double().eval(), some_points().float()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    path = export(vae, tmp_path / f"m.{ending}")
    close(run(path, x), [vae.predict_proba(x).float()])
    for name, value in vae.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
