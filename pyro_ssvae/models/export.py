"""Models as programs that run without this library: ONNX and ``torch.export``."""

from __future__ import annotations

import builtins
import io
import json
import warnings
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pyro
import torch
from torch import Tensor, nn

from ..errors import InputError, kind_of, nearest
from ..files import write_atomically
from ..infer.batched import evaluating, need_numbers, seeded
from ..labels import describe
from . import Model
from .export_programs import What, program_of

SEEDS = 10  # that the program is tried with
MOST_BYTES = 2**31 - 1  # of an ONNX file, whose format counts in 31 bits


def export(
    model: Model,
    path: str | Path,
    *,
    what: What = "predict_proba",
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write one function of a model as a program: ``.onnx``, or ``.pt2`` (``torch.export``); return the file's path.

    The number of rows is free, and numbers are of single precision, whatever the model's are. The likelihood's units
    are inside, and so is what is done where an entry of x is missing (NaN): points go in as :func:`pyro_ssvae.fit` took
    them. The labels' names lie in the file, as JSON: in ONNX as the metadata ``labels``, in ``.pt2`` as the extra file
    ``labels``.

    ================= ============================= =================================================
    ``what``          inputs                        outputs
    ================= ============================= =================================================
    ``predict_proba`` ``x`` [B, \\*input_shape]       ``probabilities`` [B, K] or [B, A]
    ``encode``        ``x``                         ``mean`` and ``scale`` [B, D]; of the model
                                                    ``classifier`` ``features`` [B, H]
    ``decode``        ``z`` [B, D]; where x depends ``x`` [B, \\*input_shape]
                      on y beside z, also ``y``
                      int64 [B] or [B, A], -1 where
                      missing
    ================= ============================= =================================================

    :param dtype: of x: ``torch.float32``, or ``torch.uint8`` for 8-bit pixels.
    :raises InputError: a model that cannot do it, one whose answer is the mean of random draws, such as those of a
        flow, a file's ending that is neither, or a package that is absent.

    Example::

        ps.export(vae, "model.onnx")
        session = onnxruntime.InferenceSession("model.onnx")
        (probabilities,) = session.run(None, {"x": x})  # as vae.predict_proba(x)
    """
    path = Path(path)
    check_export(path, what, dtype)
    if not isinstance(model, Model):
        raise InputError(f"export: {kind_of(model)}; a model of this library is needed")
    need_numbers(model)
    with in_single_precision(model), evaluating(model), pyro.validation_enabled(False):
        program, example = program_of(model, what, dtype)
        content = as_onnx(program, example, model) if path.suffix == ".onnx" else as_pt2(program, example, model)
    write_atomically(path, content)
    return path


@contextmanager
def in_single_precision(model: Model) -> Iterator[None]:
    """A model on the CPU, in float32; afterwards it has its own numbers again."""
    device = model.device
    own = {name: tensor.data for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    model.to("cpu", torch.float32)
    try:
        yield
    finally:
        model.to(device)
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            tensor.data = own[name]


def check_export(path: Path, what: str, dtype: torch.dtype) -> None:
    """Raise :class:`InputError` naming what cannot be used."""
    if what not in get_args(What):
        raise InputError(f"what: there is no {what!r}{nearest(str(what), get_args(What))}")
    if path.suffix not in (".onnx", ".pt2"):
        raise InputError(f"{path}: {path.suffix or 'no ending'!r}; .onnx or .pt2 is needed")
    if dtype not in (torch.float32, torch.uint8):
        raise InputError(f"dtype: {dtype}; torch.float32 or torch.uint8 is needed")
    if path.suffix == ".onnx":
        for package in ("onnx", "onnxscript"):
            if find_spec(package) is None:
                raise InputError(f"{path}: the package {package} is absent; pip install pyro_ssvae[export]")


def traced(program: nn.Module, example: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """Return the program's graph, for any number of rows."""
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in example)
    with symbolic_len(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = torch.export.export(program.eval(), example, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"export: this model cannot be traced ({type(error).__name__}: {reason})") from error
    # A distribution's lazy attribute that reads another one leaves an empty region, which no .pt2 file is read with.
    found.graph_module.graph.eliminate_dead_code()
    found.graph_module.recompile()
    if is_drawn(found.module(), example):
        raise InputError("export: what comes out depends on random draws, which cannot be exported: they would be "
                         "others at each call")  # fmt: skip
    return found


def is_drawn(program: nn.Module, example: tuple[Tensor, ...]) -> bool:
    """Whether what comes out is another thing with other random numbers."""

    def outputs(seed: int) -> list[Tensor]:
        with seeded(torch.device("cpu"), seed):
            found = program(*example)
        return [found] if isinstance(found, Tensor) else list(found)

    first = outputs(0)
    return any(
        not torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
        for seed in range(1, SEEDS)
        for one, other in zip(first, outputs(seed), strict=True)
    )


@contextmanager
def symbolic_len() -> Iterator[None]:
    """For a while ``len`` of a tensor may be a symbol, which Python's own would make a number of."""
    own = builtins.len

    def length(value: Sized) -> int:
        return value.shape[0] if isinstance(value, Tensor) and value.dim() else own(value)

    builtins.len = length
    try:
        yield
    finally:
        builtins.len = own


def as_pt2(program: nn.Module, example: tuple[Tensor, ...], model: Model) -> bytes:
    """Return the content of a ``.pt2`` file."""
    file = io.BytesIO()
    torch.export.save(traced(program, example), file, extra_files={"labels": labels_json(model)})
    return file.getvalue()


def as_onnx(program: nn.Module, example: tuple[Tensor, ...], model: Model) -> bytes:
    """Return the content of an ``.onnx`` file."""
    inputs, outputs = program.inputs, program.outputs
    assert isinstance(inputs, tuple) and isinstance(outputs, tuple)  # noqa: PT018
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(traced(program, example), dynamo=True, verbose=False)
    assert made is not None
    graph = made.model.graph
    for value in (value for node in graph.all_nodes() for value in node.outputs):
        value.name = f"{value.name}_"  # so that none inside has a name of what goes in or comes out
    for value, name in zip([*graph.inputs, *graph.outputs], [*inputs, *outputs], strict=True):
        value.name = name
    proto = made.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = "labels", labels_json(model)
    if proto.ByteSize() > MOST_BYTES:
        raise InputError(f"export: {proto.ByteSize():,} bytes; an .onnx file holds at most 2 GB, .pt2 any number")
    content: bytes = proto.SerializeToString()
    return content


def labels_json(model: Model) -> str:
    """Return the labels' kind and names as JSON."""
    return json.dumps(None if model.labels is None else describe(model.labels))
