"""Draw new points from a trained model.

Pictures and series are drawn as a picture, rows of a table as a table.

Example: pyro-ssvae generate runs/digits-augmented-50 --label 3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..errors import InputError, counted
from .arguments import check_bounds, read
from .outputs import check_out, free_name
from .pictures import able, check, save_picture
from .table_files import may_end_in, write_tables

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from ..models import Model

MOST, MOST_ROWS = 1000, 1_000_000
"""Points of a picture, and rows of a table, at most."""


@dataclass(frozen=True)
class Generate:
    """The command's options."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    label: str | None = None
    """What to draw: a class by name, or attributes such as Smiling=1,Male=0; by default a row for each."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 10
    """How many, or how many in each row (in a table: of each label)."""
    out: Path | None = None
    """The file, which must not exist: a picture (.png, .pdf, .svg) or, of tables and vectors, a table (.csv, .tsv,
    .parquet, .feather); by default generated.png in the run's figures, of a table generated.csv in the run's folder."""
    seed: int = 0
    """Of the draws."""


def parse(arguments: Sequence[str]) -> Generate:
    """Return the options that were typed."""
    return read("generate", Generate, arguments, __doc__)


def run(options: Generate) -> None:
    """Write the picture or the table, and say where it is."""
    from .. import plots
    from ..infer.protocols import Classifies, Generates
    from ..labels import ClassLabels
    from ..models.saving import load

    tabular = options.out is not None and options.out.name.lower().endswith(may_end_in(options.out))
    if tabular:
        check_out(options.out, may_end_in(options.out))
    check(replace(options, out=None) if tabular else options, n=(1, MOST_ROWS))
    model = load(options.run)
    able(options.run, model, Generates)
    tabular = tabular or (options.out is None and model.schema is not None)
    check_bounds(options, n=(1, MOST_ROWS if tabular else MOST))
    if tabular:
        out = options.out or free_name(options.run, "generated", ".csv")
        print(f"table: {out}, {counted(write_tables(iter([generated_rows(model, options)]), out), 'row')}")
        return
    if options.label is None and isinstance(model, Classifies):
        figure = plots.samples_by_class(model, n_per_class=options.n, seed=options.seed)
    elif options.label is None:
        figure = plots.samples(model, options.n, seed=options.seed)
    else:
        label = asked_label(model, options.label)
        classes = isinstance(model.labels, ClassLabels)
        title = f"{counted(options.n, 'draw')} {'of class' if classes else 'with'} {options.label}"
        figure = plots.samples(model, options.n, label, seed=options.seed, title=title)
    print(f"picture: {save_picture(figure, options.out, options.run, 'generated')}")


def generated_rows(model: Model, options: Generate) -> pa.Table:
    """Return new rows under their labels, in a table's own names and words: the mean of each cell, given its latents.

    :raises InputError: points that are no rows of a table.
    """
    import pyarrow as pa

    from ..experiment.columns import as_table, label_words, point_columns
    from ..infer.protocols import Classifies
    from ..labels import ClassLabels
    from ..plots.points import generated, one_label_a_row

    if len(model.input_shape) != 1:
        shape = list(model.input_shape)
        raise InputError(
            f"--out {options.out}: points of shape {shape} are no rows of a table; a name such as x.png is needed"
        )
    asked: list[Tensor | None] = [None]
    if options.label is not None:
        asked = [asked_label(model, options.label)]
    elif isinstance(model, Classifies) and isinstance(model.labels, ClassLabels):
        asked = list(one_label_a_row(model.labels)[1])
    parts: list[pa.Table] = []
    for y in asked:
        x = generated(model, options.n, y, options.seed)
        columns = {} if y is None else label_words(model, y.expand(options.n, *y.shape))
        parts.append(as_table({**columns, **point_columns(x, model, taken=columns)}))
    return pa.concat_tables(parts)


def asked_label(model: Model, words: str) -> Tensor:
    """Return the label of a class's name, or of attributes such as ``Smiling=1,Male=0``."""
    import torch

    from ..data.asked_labels import asked_attributes, asked_class
    from ..infer.protocols import Classifies
    from ..labels import MISSING, ClassLabels

    if not isinstance(model, Classifies):
        raise InputError(f"--label {words}: this model knows no labels; leave the option out")
    labels = model.labels
    if isinstance(labels, ClassLabels):
        return torch.tensor(asked_class("--label", words, labels))
    values = asked_attributes("--label", [words], labels)
    return torch.tensor([values.get(name, MISSING) for name in labels.names])
