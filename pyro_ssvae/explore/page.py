"""The page of ``pyro-ssvae explore``: what is on it, and which handler follows on which event."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..data import Dataset
from ..errors import counted
from ..infer.protocols import Classifies
from ..labels import ClassLabels
from ..models import Model
from . import html, view
from .handlers import Handlers, in_words
from .offline import gr
from .server import listen, serve
from .sliders import Axis

Component: TypeAlias = Any  # of gradio, whose classes have no common type with events

SECONDS = 3600  # that the state of a page is kept after its last use
HELP = (
    "A slider moves an attribute's z_c along the line from μ₀ - 4σ₀ to μ₁ + 4σ₁; what is not on it stays.  "
    "draw: z_c from p(z_c | y).  swap: the second point's z_c."
)
HELP_OF_LABELS = (
    "Each slider moves an attribute that the decoder hears beside z, from 0 to 1. swap: what the second point has."
)
LOOK: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
LATEST = {**LOOK, "trigger_mode": "always_last"}  # of events that come faster than they are answered


def open_page(model: Model, dataset: Dataset, name: str, index: int = 0, *, port: int | None, browser: bool) -> None:
    """Serve the page of a model and its data until Ctrl-C."""
    socket = listen(port)
    serve(make_page(model, dataset, name, index), socket, browser=browser)


def make_page(model: Model, dataset: Dataset, name: str, index: int = 0) -> gr.Blocks:
    """Return the page of a model and its data.

    :param name: the run's, for titles and for the names of saved images.
    :param index: the test point to begin with.
    """
    return build(Handlers(model, dataset, name), index)


def build(handlers: Handlers, index: int = 0) -> gr.Blocks:
    """Lay the page out, and connect its events."""
    with gr.Blocks(title=handlers.name, analytics_enabled=False, fill_width=True) as blocks:
        parts = lay_out(handlers, index)
        connect(handlers, blocks, parts)
        if parts.sliders:
            connect_sliders(handlers, parts)
    return blocks


@dataclass
class Parts:
    """The page's components by what they show."""

    visit: Component
    point: Component
    steps: list[Component]
    truth: Component
    second: Component
    donor: Component
    fixed: Component
    edited: Component
    bars: Component
    grid: Component
    other: Component
    posterior: Component
    sliders: list[Component] = field(default_factory=list)
    buttons: list[list[Component]] = field(default_factory=list)
    reset: Component = None


def lay_out(handlers: Handlers, index: int) -> Parts:
    """Make the components: the two points on the left, what is computed of them on the right."""
    last = len(handlers.x) - 1
    found: dict[str, Component] = {"visit": gr.State(None, time_to_live=SECONDS)}
    model = handlers.model
    about = f"{type(model).__name__} on {handlers.dataset.name}, {counted(last + 1, 'test point')}"
    what = view.described(model.input_shape) if model.schema is None else "rows of a table, in its own units"
    gr.HTML(html.heading(handlers.name, f"{about}; {what}"))
    with gr.Row():
        with gr.Column(scale=2, min_width=220):
            label = f"Test point, 0 to {last}"
            found["point"] = gr.Number(index, label=label, precision=0, elem_id="point")
            with gr.Row():
                found["steps"] = [gr.Button(word, size="sm", min_width=40) for word in ("◀", "▶", "random")]
            found["truth"] = gr.HTML()
            label = f"Second point, 0 to {last}"
            found["second"] = gr.Number(
                min(index + 1, last), label=label, precision=0, elem_id="second", visible=handlers.pairs
            )
            found["donor"] = gr.HTML(visible=handlers.pairs)
        with gr.Column(scale=11, min_width=700):
            with gr.Row():
                with gr.Column(scale=5, min_width=438):
                    found["fixed"] = gr.HTML(elem_id="fixed")
                with gr.Column(scale=2, min_width=224, visible=handlers.pairs):
                    found["edited"] = gr.HTML(elem_id="edited")
                with gr.Column(scale=4, min_width=220):
                    found["bars"] = gr.HTML(elem_id="bars")
            if handlers.sliders:
                found.update(lay_out_sliders(handlers))
            with gr.Accordion(grid_title(model), visible=handlers.gridded):
                found["grid"] = gr.HTML(elem_id="grid")
                found["other"] = gr.Button("other styles", size="sm", elem_id="other")
            with gr.Accordion("Posterior of z", open=not handlers.sliders, visible=handlers.has_code):
                found["posterior"] = gr.HTML(elem_id="posterior")
    return Parts(**found)


def grid_title(model: Model) -> str:
    """Return what the grid shows."""
    if not isinstance(model, Classifies):
        return "Draws of the model"
    what = "A class" if isinstance(model.labels, ClassLabels) else "An attribute's value"
    return f"{what} a column, a style a row"


def lay_out_sliders(handlers: Handlers) -> dict[str, Component]:
    """Make a slider and three buttons for each attribute, in two columns, and the button that puts them all back."""
    rows: list[tuple[Component, list[Component]]] = []
    verb = "draw" if handlers.draws_of_a_label else "set"
    half = (len(handlers.sliders) + 1) // 2
    gr.HTML(html.quiet(HELP if handlers.draws_of_a_label else HELP_OF_LABELS))
    with gr.Row():
        for column in (handlers.sliders[:half], handlers.sliders[half:]):
            with gr.Column(min_width=420):
                rows += [lay_out_slider(axis, verb) for axis in column]
    reset = gr.Button("back to the point as encoded", size="sm", elem_id="reset")
    return {"sliders": [slider for slider, _ in rows], "buttons": [buttons for _, buttons in rows], "reset": reset}


def lay_out_slider(axis: Axis, verb: str) -> tuple[Component, list[Component]]:
    """Make one attribute's slider and buttons."""
    (no, yes), (zero, one) = axis.marks, axis.words
    with gr.Row(elem_classes="axis"):
        slider = gr.Slider(
            axis.low,
            axis.high,
            axis.nearest(no),
            step=axis.step,
            label=f"{axis.name}: {zero} at {no:.2g}, {one} at {yes:.2g}",
            scale=5,
            min_width=250,
            buttons=[],
        )
        words = (f"{verb} {zero}", f"{verb} {one}", "swap")
        buttons = [gr.Button(word, size="sm", scale=1, min_width=56) for word in words]
    return slider, buttons


def connect(handlers: Handlers, blocks: gr.Blocks, parts: Parts) -> None:
    """Connect the two points and the grid with their handlers."""
    p = parts
    seen = [p.visit, p.truth, p.fixed, p.posterior, p.edited, p.bars, p.grid, *p.sliders]
    gr.on([blocks.load, p.point.change], in_words(handlers.pick), [p.point, p.second], seen, **LATEST)
    for button, step in zip(p.steps, (-1, 1, 0), strict=True):
        button.click(in_words(functools.partial(handlers.step, step)), [p.point], [p.point], **LOOK)
    gr.on([blocks.load, p.second.change], in_words(handlers.show_second), [p.second], [p.donor], **LATEST)
    if not p.sliders:
        p.second.change(in_words(handlers.swap), [p.visit, p.second], [p.edited], **LATEST)
    p.other.click(in_words(handlers.restyle), [p.visit], [p.visit, p.grid], **LOOK)


def connect_sliders(handlers: Handlers, parts: Parts) -> None:
    """Connect the sliders and their buttons with their handlers."""
    visit, sliders = parts.visit, parts.sliders
    changed = [visit, parts.edited, parts.bars, *sliders]
    moves, shown = [slider.input for slider in sliders], [parts.edited, parts.bars]
    gr.on(moves, in_words(handlers.slide), [visit, *sliders], shown, queue=False, **LATEST)
    for i, (no, yes, swap) in enumerate(parts.buttons):
        for value, button in enumerate((no, yes)):
            draw = functools.partial(handlers.draw, i, value)
            button.click(in_words(draw), [visit, *sliders], changed, **LOOK)
        take = functools.partial(handlers.take, i)
        swap.click(in_words(take), [visit, parts.second, *sliders], changed, **LOOK)
    parts.reset.click(in_words(handlers.reset), [visit], changed, **LOOK)
