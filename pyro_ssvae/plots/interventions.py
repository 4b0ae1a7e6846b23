"""Plots of what interventions, swaps and walks do to images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..data.augment import unit_scale
from ..data.inputs import numbers
from ..data.label_values import label_values
from ..errors import InputError, counted, nearest
from ..infer.batched import batched, evaluating
from ..infer.protocols import Classifies, Intervenes, Intervention, Reconstructs, Walks, require
from ..labels import AttributeLabels, ClassLabels, Labels
from ..models.interventions import asked
from .layout import Part, draw_frames, lay_out
from .style import VERMILLION, fit_names, fit_text, styled

BAND = 9
"""Most attributes side by side."""
BEFORE = ("image", "recon-\nstruction")
ROWS = 500  # at a time


@styled
def intervention_table(
    model: nn.Module,
    x: ArrayLike,
    attributes: Sequence[str] | None = None,
    *,
    y: ArrayLike | None = None,
    seed: int = 0,
) -> Figure:
    """Plot each image, its reconstruction, and it with each attribute set to 0 and to 1, or set to each class.

    A frame marks what is set against the image's label (against the model's own prediction, where y is missing).

    :param x: images ``[n, C, H, W]``, one a row.
    :param attributes: these only, by name.
    :param y: their labels, if known.
    """
    labels, images = require(model, Intervenes).labels, check_images(x)
    predicted = batched(model, require(model, Classifies).predict, images, rows=ROWS, seed=seed).cpu()
    known = labels.check(None if y is None else label_values(y, labels), len(images)).cpu()
    current = torch.where(known < 0, predicted, known)
    groups: list[Part] = []
    frames: list[Tensor] = []
    for title, words, values, there in settings(labels, attributes, current):
        groups.append(Part(torch.stack([intervened(model, images, value, seed) for value in values], 1), words, title))
        frames.append(there.unsqueeze(-1) != torch.arange(len(values)))
    start = Part(torch.stack([unit_scale(images), reconstructed(model, images, seed)], 1), BEFORE)
    bands = [groups[i : i + BAND] for i in range(0, len(groups), BAND)]
    what = "each class" if isinstance(labels, ClassLabels) else f"each attribute set to {both_words(labels)}"
    figure, axes = lay_out([[start, *band] for band in bands], bottom=0.22, title=f"{what}, the rest as it is")
    for ax, part, frame in zip((ax for row in axes for ax in row[1:]), groups, frames, strict=True):
        draw_frames(ax, part.grid, frame)
    left = axes[0][0].get_position().x0
    figure.text(left, 0.01, "framed: other than in the image", fontsize=7, color=VERMILLION, va="bottom")
    return figure


@styled
def intervention_draws(
    model: nn.Module, x: ArrayLike, values: Intervention, draws: int = 8, *, seed: int = 0
) -> Figure:
    """Plot each image, its reconstruction, and ``draws`` repetitions of one intervention: its diversity.

    :param values: ``{"Smiling": 1, "Hat": 0}``, or a class.
    """
    labels, images = require(model, Intervenes).labels, check_images(x)
    grid = intervened(model, images, values, seed, draws).transpose(0, 1)
    before = torch.stack([unit_scale(images), reconstructed(model, images, seed)], 1)
    if isinstance(values, Mapping):
        title = ", ".join(f"{name} = {attribute_words(labels, name)[v]}" for name, v in asked(labels, values).items())
    else:
        title = f"class = {values if isinstance(values, str) else labels.names[values]}"
    parts = [Part(before, BEFORE), Part(grid, [], f"{title}, {counted(draws, 'draw')}")]
    return lay_out([parts], title="what is set varies, the rest is as it is")[0]


@styled
def swaps(model: nn.Module, x: ArrayLike, donor: ArrayLike, name: str = "class", *, seed: int = 0) -> Figure:
    """Plot receivers, donors, and the receivers with the donors' characteristic, one a row.

    :param donor: as many images as ``x``, or one for all.
    """
    swapping = require(model, Intervenes)
    images, donors = check_images(x), check_images(donor)
    with evaluating(model, seed):
        result = swapping.swap(images, donors, name).cpu()
    donors = donors.expand(len(images), *donors.shape[1:])
    before = torch.stack([unit_scale(images), reconstructed(model, images, seed), unit_scale(donors)], 1)
    first = Part(before, ["receiver", "recon-\nstruction", "donor"])
    after = Part(result.unsqueeze(1), [f"with its\n{fit_text(name, 12)}"])
    return lay_out([[first, after]], title=f"the donor's {name} in the receiver")[0]


@styled
def swap_table(model: nn.Module, x: ArrayLike, donors: ArrayLike, name: str = "class", *, seed: int = 0) -> Figure:
    """Plot every receiver (rows, their reconstructions) with every donor's characteristic (columns)."""
    swapping = require(model, Intervenes)
    images, givers = check_images(x), check_images(donors)
    with evaluating(model, seed):
        results = [swapping.swap(images, giver.unsqueeze(0), name).cpu() for giver in givers]
    top = Part(unit_scale(givers).unsqueeze(0), [], f"donors of {fit_text(name, 24)}")
    side = Part(reconstructed(model, images, seed).unsqueeze(1), [])
    corner = Part(torch.ones(1, 1, *images.shape[1:]), [])
    title = f"each receiver's reconstruction (rows) with each donor's {name} (columns)"
    figure, axes = lay_out([[corner, top], [side, Part(torch.stack(results, 1), [])]], left=0.3, title=title)
    axes[1][0].set_ylabel("receivers")
    return figure


@styled
def walk(
    model: nn.Module,
    x: ArrayLike,
    first: str,
    second: str | None = None,
    *,
    steps: int = 7,
    k: float = 2.0,
    seed: int = 0,
) -> Figure:
    """Plot walks from ``μ_0 - kσ_0`` to ``μ_1 + kσ_1``: of one attribute, an image a row; of two, an image a panel.

    Each image and its reconstruction stand beside its walk.
    """
    walking, labels, images = require(model, Walks), require(model, Classifies).labels, check_images(x)
    with evaluating(model, seed):
        grids = walking.walk(images, first, second, steps=steps, k=k).cpu()
    before = torch.stack([unit_scale(images), reconstructed(model, images, seed)], 1)
    reach = f"from μ₀ - {k:g}σ₀ to μ₁ + {k:g}σ₁"
    if second is None:
        title = f"walk along {first}, {reach}"
        figure, axes = lay_out([[Part(before, BEFORE), Part(grids, [])]], bottom=0.3, title=title)
        axes[0][1].set_xlabel(way(labels, first))
        return figure
    parts = [part for pair, grid in zip(before, grids) for part in (Part(pair[None], BEFORE), Part(grid.flip(0), []))]
    bands = [parts[i : i + 4] for i in range(0, len(parts), 4)]
    title = f"walk over {first} and {second}, {reach}"
    figure, axes = lay_out(bands, bottom=0.3, between=0.4, title=title)
    for ax in (ax for row in axes for ax in row[1::2]):
        ax.set_xlabel(way(labels, first))
        ax.set_ylabel(way(labels, second))
    return figure


def way(labels: Labels, name: str) -> str:
    """Return what a walk along an attribute goes from and to, in its own words."""
    return f"{fit_text(name, 24)}:  {'  →  '.join(fit_names(attribute_words(labels, name), 12))}"


def attribute_words(labels: Labels, name: str) -> Sequence[str]:
    """Return what 0 and 1 of an attribute are called."""
    return dict(zip(labels.names, labels.words))[name] if isinstance(labels, AttributeLabels) else ("0", "1")


def both_words(labels: Labels) -> str:
    """Return what every attribute is set to, in one phrase."""
    plain = isinstance(labels, AttributeLabels) and set(labels.words) == {("0", "1")}
    return "0 and to 1" if plain else "both of its values"


def settings(
    labels: Labels, attributes: Sequence[str] | None, current: Tensor
) -> list[tuple[str, list[str], list[Intervention], Tensor]]:
    """Return each attribute, or the class: its name, the words for its values, how to set them, and it in each image.

    :raises InputError: an attribute that does not exist.
    """
    if not isinstance(labels, AttributeLabels):
        words = fit_names(labels.names, 10, lines=2)
        return [("class", words, list(range(labels.size)), current)]
    names, found = list(labels.names), []
    for name in attributes or names:
        if name not in names:
            raise InputError(f"attribute: there is no {name!r}{nearest(name, names)}")
        values: list[Intervention] = [{name: v} for v in (0, 1)]
        found.append(
            (name, fit_names(attribute_words(labels, name), 10, lines=2), values, current[:, names.index(name)])
        )
    return found


def check_images(x: ArrayLike) -> Tensor:
    """Return images as a tensor on the CPU; raise :class:`InputError` for anything else."""
    images = numbers(x, "x").cpu()
    if images.dim() != 4 or not len(images):
        raise InputError(f"x: shape {list(images.shape)}; images [n, C, H, W] are needed")
    return images


def intervened(model: nn.Module, x: Tensor, values: Intervention, seed: int, draws: int | None = None) -> Tensor:
    """Return one draw ``[B, ...]`` of an intervention, or ``[draws, B, ...]``, from random numbers of ``seed``."""
    with evaluating(model, seed):
        return require(model, Intervenes).intervene(x, values, num_samples=draws).cpu()


def reconstructed(model: nn.Module, x: Tensor, seed: int) -> Tensor:
    """Return the images' reconstructions, in their shape."""
    return batched(model, require(model, Reconstructs).reconstruct, x, rows=ROWS, seed=seed).cpu().reshape(x.shape)
