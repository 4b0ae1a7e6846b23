"""What commands print as tables: metrics of models, and of interventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import counted

Metrics: TypeAlias = Mapping[str, Any]

# What a table shows of the metrics: key, words, digits.
METRICS = (
    ("accuracy", "accuracy", 4),
    ("accuracy_low", "  95% interval from", 4),
    ("accuracy_high", "  to", 4),
    ("majority_accuracy", "majority guess", 4),
    ("balanced_accuracy", "balanced accuracy", 4),
    ("macro_f1", "macro F1", 4),
    ("average_precision", "average precision", 4),
    ("auroc", "AUROC", 4),
    ("nll", "negative log-likelihood of the label (nats)", 4),
    ("calibration_error", "calibration error", 4),
    ("calibration_error_by_chance", "  of right probabilities", 4),
    ("elbo", "ELBO (nats a point)", 2),
    ("log_likelihood", "importance-weighted bound (nats a point)", 2),
    ("elbo_per_dimension", "ELBO (nats a dimension)", 4),
    ("bits_per_dimension", "bits a dimension", 3),
    ("reconstruction", "reconstruction, E log p(x | z) (nats a point)", 2),
    ("kl", "KL of the latents (nats a point)", 2),
    ("active_units", "active latent dimensions", 0),
    ("latent_units", "latent dimensions", 0),
    ("mutual_information", "information of the latents on x (nats)", 2),
    ("reconstruction_error", "reconstruction error (mean square)", 5),
)
IN_GROUPS = {
    "nll": "negative log-likelihood (nats)",
    "calibration_error_by_chance": "that of right probabilities",
    "coverage": "share of sets with the true label",
    "set_size": "labels a set",
    "single_sets": "share of sets of one label",
    "nmi": "normalised mutual information",
    "ari": "adjusted Rand index",
}
"""Words for metrics of a group, such as ``calibrated``, whose keys are no words."""
# Where the points lie outside the likelihood's support, such as grey pixels under a Bernoulli, or shares in a table.
NO_DENSITY = {
    "elbo": "bound with relaxed {values}, no density (nats a point)",
    "log_likelihood": "the same, importance-weighted (nats a point)",
    "reconstruction": "reconstruction with relaxed {values} (nats a point)",
}
INTERVENTIONS = (
    ("success", "success"),
    ("preservation", "others preserved"),
    ("preservation_labels", "others as labelled"),
    ("preservation_kinds", "other factors preserved"),
    ("carry_over", "unnamed kind arrives"),
    ("carry_over_without", "to points without"),
    ("diversity_pixels", "variance a pixel"),
    ("diversity_features", "variance a feature"),
)


def show(table: Table) -> None:
    """Print a table between its title and its caption, whose lines are as long as the terminal's, not the table's."""
    console, title, caption = Console(), table.title, table.caption
    table.title = table.caption = None
    if title:
        console.print(Text(str(title), "italic"))
    console.print(table)
    if caption:
        console.print(Text(str(caption), "dim italic"))
    table.title, table.caption = title, caption


def show_metrics(title: str, columns: Mapping[str, Metrics | None], input_shape: Sequence[int] = ()) -> None:
    """Print metrics side by side.

    :param input_shape: of a point; that of an image has three sizes.
    """
    filled = {name: metrics for name, metrics in columns.items() if metrics}
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in filled:
        table.add_column(name, justify="right", no_wrap=True)
    relaxed = any(metrics.get("density") is False for metrics in filled.values())
    values = "pixels" if len(input_shape) == 3 else "values"
    for key, words, digits in METRICS:
        words = NO_DENSITY.get(key, words).format(values=values) if relaxed else words
        cells = [metrics.get(key) for metrics in filled.values()]
        if any(cell is not None for cell in cells):
            table.add_row(words, *("" if cell is None else f"{round(cell, digits) + 0.0:.{digits}f}" for cell in cells))
    for group in ("calibrated", "clustering", "semi_unsupervised", "anomaly"):
        first: Metrics = next(iter(filled.values()), {})
        for key, value in (first.get(group) or {}).items():
            if isinstance(value, float):
                words = IN_GROUPS.get(key, key.replace("_", " "))
                table.add_row(f"{group.replace('_', '-')}: {words}", f"{value:.4f}")
    show(table)


def show_interventions(metrics: Metrics) -> None:
    """Print the metrics of interventions: means with everything beside them, one row an attribute, one row a kind."""
    show(mean_table(metrics))
    show(attribute_table(metrics))
    if "carry_over" in metrics:
        show(kind_table(metrics))
    leaked = metrics.get("leakage", {})
    if leaked.get("swaps"):
        show(swap_table(leaked["swaps"], leaked["attributes"]))
    if leaked.get("latents"):
        show(latent_table(leaked["latents"]))


def mean_table(metrics: Metrics) -> Table:
    """Return the means over attributes, with interval, chance and ceiling."""
    about = f"{counted(metrics['points'], 'test point')}, {counted(metrics['draws'], 'draw')} each"
    note = "real, recon.: the ceiling, what the oracle reads on real points and on reconstructions"
    table = Table(title=f"interventions, as the oracle reads them: {about}", title_justify="left", caption=note)
    table.add_column("", no_wrap=True)
    for column in ("mean", "95% interval", "chance", "real", "recon."):
        table.add_column(column, justify="right", no_wrap=True)
    for key, words in INTERVENTIONS:
        if key in metrics:
            m = metrics[key]["mean"]
            between = "" if m["low"] is None else f"{number(m['low'])}–{number(m['high'])}"
            best = [number(m["ceiling"][name]) for name in ("real", "reconstruction")]
            table.add_row(words, number(m["value"]), between, number(m["chance"]), *best)
    return table


def attribute_table(metrics: Metrics) -> Table:
    """Return one row an attribute, or a class."""
    kind = "per_class" if "per_class" in metrics["success"] else "per_attribute"
    columns = [(key, words) for key, words in INTERVENTIONS if kind in metrics.get(key, {}) and "variance" not in words]
    table = Table(padding=(0, 0) if len(columns) > 4 else (0, 1))
    table.add_column("", overflow="fold")
    for _, words in columns:
        table.add_column(words, justify="right", min_width=max(5, *map(len, words.split())))
    for name in metrics["success"][kind]:
        table.add_row(name, *(number(metrics[key][kind][name]["value"]) for key, _ in columns))
    return table


def kind_table(metrics: Metrics) -> Table:
    """Return one row a factor whose values no label names, such as the kind of glasses."""
    table = Table()
    for column in ("kind", "of", "arrives", "chance", "to points without"):
        add_column(table, column, ("kind", "of"))
    without = metrics.get("carry_over_without", {}).get("per_factor", {})
    for name, m in metrics["carry_over"]["per_factor"].items():
        other = number(without[name]["value"]) if name in without else ""
        table.add_row(name, m["attribute"], number(m["value"]), number(m["chance"]), other)
    return table


def swap_table(swaps: Metrics, owners: Mapping[str, str]) -> Table:
    """Return one row a factor: whose kind shows after a swap of its attribute, and of the other that brings it most."""
    table = Table(title="kinds after a swap, points and donors with the kind's attribute", title_justify="left")
    for column in ("kind", "swap of", "donor's", "own", "other swap", "donor's", "own"):
        add_column(table, column, ("kind", "swap of", "other swap"))
    for factor, row in swaps.items():
        owner, cells = owners[factor], []
        others = [name for name in row if name != owner]
        for name in [owner, *([max(others, key=lambda name: row[name][0])] if others else [])]:
            cells += [name, *(f"{share:.2f}" for share in row[name])]
        table.add_row(factor, *cells)
    return table


def latent_table(latents: Metrics) -> Table:
    """Return one row a factor: how well a classifier reads its kind from each part of the latents."""
    table = Table(title="kinds read from the latents of a swap's guide, accuracy", title_justify="left")
    for column in ("kind", "own z_c", "other z_c", "z_s", "chance"):
        add_column(table, column, ("kind",))
    for factor, row in latents.items():
        table.add_row(factor, *(number(row.get(key)) for key in ("own", "others", "rest", "chance")))
    return table


def add_column(table: Table, name: str, words: Sequence[str]) -> None:
    """Add a column: of words, which may be folded, or of numbers, which are never cut."""
    if name in words:
        table.add_column(name, overflow="fold")
    else:
        table.add_column(name, justify="right", min_width=max(5, *map(len, name.split())))


def number(value: float | None) -> str:
    """Return a number in a cell: three places, or two digits where it is small or, in a table's units, large."""
    if value is None:
        return ""
    return f"{value:.3f}" if 0.1 <= value < 1000 or value == 0 else f"{value:.2g}"
