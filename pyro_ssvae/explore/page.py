"""The page of ``pyro-ssvae explore``: what stands on it, what follows on a click, and how it is served.

What is shown is computed in :mod:`~pyro_ssvae.explore.view` and drawn in :mod:`~pyro_ssvae.explore.html`. A visitor's own
state (:class:`Visit`) is kept by gradio, a copy for each open page; nothing else changes while the page is served.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import socket
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

# Before gradio is imported: it and what it imports would otherwise report its use, and keep a visitor's inputs.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import gradio as gr
import torch
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from torch import Tensor

from ..cli.inspect import named
from ..data import Dataset
from ..data.augment import unit_scale
from ..errors import InputError
from ..labels import MISSING, ClassLabels
from ..models import Model
from . import html
from . import view as explore

HOST = "127.0.0.1"
ROUTES = ("file", "upload", "proxy", "stream", "custom_component", "run-history", "runs", "dev", "deep_link")
CLOSED = tuple(f"/gradio_api/{route}" for route in ROUTES)
SECONDS = 3600  # that the state of a page is kept after its last use
HELP = (
    "A slider moves an attribute's z_c along the line from μ₀ - 4σ₀ to μ₁ + 4σ₁; what is not on it stays.  "
    "draw: z_c from p(z_c | y).  swap: the second point's z_c."
)
HELP_OF_TOLD = (
    "Each slider moves an attribute that the decoder is told beside z, from 0 to 1. swap: what the second point has."
)
LOOK: Any = {"show_progress": "hidden", "api_visibility": "private"}
LATEST: Any = {**LOOK, "trigger_mode": "always_last"}  # of events that come faster than they are answered


@dataclass(frozen=True)
class Visit:
    """What one visitor sees.

    :ivar index: the test point.
    :ivar code: where the edited point stands when the sliders are at ``start``.
    :ivar probs: q(y | x) of the point.
    :ivar seed: of the next draw.
    """

    index: int
    code: Tensor | None
    start: tuple[float, ...]
    probs: tuple[float, ...] | None
    seed: int = 0


def make_page(model: Model, whole: Dataset, name: str, index: int = 0) -> gr.Blocks:
    """The page of a model and its data.

    :param name: the run's, for titles and for the names of saved pictures.
    :param index: the test point to begin with.
    """
    return Page(model, whole, name, index).blocks


class Page:
    """The handlers of the page's events; none of them changes anything here."""

    def __init__(self, model: Model, whole: Dataset, name: str, index: int) -> None:
        self.model, self.whole, self.name = model, whole, name
        self.x = whole.x_test
        self.sliders = explore.axes(model)
        self.draws_of_a_label = any(bool(axis.scales[1].any()) for axis in self.sliders)
        self.reconstructs = hasattr(model, "reconstruct")
        x = self.point(index)
        self.pairs = bool(self.sliders) or explore.swapped(model, x, x) is not None
        self.gridded = not self.sliders and hasattr(model, "generate")
        self.blocks = self.build(index)

    # --- what is on the page

    def build(self, index: int) -> gr.Blocks:
        """Lay the page out, and say what follows on what."""
        last = len(self.x) - 1
        title = html.heading(
            self.name,
            f"{type(self.model).__name__} on {self.whole.name}, {last + 1} test points; "
            f"{explore.described(self.model.input_shape)}",
        )
        with gr.Blocks(title=self.name, analytics_enabled=False, fill_width=True) as blocks:
            visit = gr.State(None, time_to_live=SECONDS)
            gr.HTML(title)
            with gr.Row():
                with gr.Column(scale=2, min_width=220):
                    point = gr.Number(index, label=f"Test point, 0 to {last}", precision=0, elem_id="point")
                    with gr.Row():
                        steps = [gr.Button(word, size="sm", min_width=40) for word in ("◀", "▶", "random")]
                    truth = gr.HTML()
                    second = gr.Number(
                        min(index + 1, last),
                        label=f"Second point, 0 to {last}",
                        precision=0,
                        elem_id="second",
                        visible=self.pairs,
                    )
                    donor = gr.HTML(visible=self.pairs)
                with gr.Column(scale=11, min_width=700):
                    with gr.Row():
                        with gr.Column(scale=5, min_width=438):
                            fixed = gr.HTML(elem_id="fixed")
                        with gr.Column(scale=2, min_width=224, visible=self.pairs):
                            edited = gr.HTML(elem_id="edited")
                        with gr.Column(scale=4, min_width=220):
                            bars = gr.HTML(elem_id="bars")
                    rows, resets = self.build_sliders()
                    sliders = [slider for slider, _ in rows]
                    with gr.Accordion(self.grid_title(), visible=self.gridded):
                        grid = gr.HTML(elem_id="grid")
                        other = gr.Button("other styles", size="sm", elem_id="other")
                    with gr.Accordion("Posterior of z", open=not self.sliders, visible=self.reconstructs):
                        posterior = gr.HTML(elem_id="posterior")

            seen = [visit, truth, fixed, posterior, edited, bars, grid, *sliders]
            gr.on([blocks.load, point.change], told(self.pick), [point, second], seen, **LATEST)
            for button, step in zip(steps, (-1, 1, 0), strict=True):
                button.click(told(functools.partial(self.step, step)), [point], [point], **LOOK)
            gr.on([blocks.load, second.change], told(self.show_second), [second], [donor], **LATEST)
            if not sliders:
                second.change(told(self.swap), [visit, second], [edited], **LATEST)
            other.click(told(self.restyle), [visit], [visit, grid], **LOOK)
            changed = [visit, edited, bars, *sliders]
            if sliders:
                gr.on(
                    [slider.input for slider in sliders], told(self.slide), [visit, *sliders], [edited, bars],
                    trigger_mode="always_last",
                    queue=False, **LOOK,
                )  # fmt: skip
            for i, (_, buttons) in enumerate(rows):
                for value, button in enumerate(buttons[:2]):
                    button.click(told(functools.partial(self.draw, i, value)), [visit, *sliders], changed, **LOOK)
                buttons[2].click(told(functools.partial(self.take, i)), [visit, second, *sliders], changed, **LOOK)
            for reset in resets:
                reset.click(told(self.reset), [visit], changed, **LOOK)
        return blocks

    def grid_title(self) -> str:
        """What the grid shows."""
        if self.model.labels is None or not hasattr(self.model, "predict_proba"):
            return "Draws of the model"
        return (
            "A class a column, a style a row"
            if isinstance(self.model.labels, ClassLabels)
            else "An attribute's value a column, a style a row"
        )

    def build_sliders(self) -> tuple[list[tuple[Any, list[Any]]], list[Any]]:
        """A slider and three buttons for each attribute, in two columns; and the button that puts them all back."""
        rows: list[tuple[Any, list[Any]]] = []
        if not self.sliders:
            return rows, []
        verb = "draw" if self.draws_of_a_label else "set"
        half = (len(self.sliders) + 1) // 2
        gr.HTML(html.quiet(HELP if self.draws_of_a_label else HELP_OF_TOLD))
        with gr.Row():
            for column in (self.sliders[:half], self.sliders[half:]):
                with gr.Column(min_width=420):
                    for axis in column:
                        with gr.Row(elem_classes="axis"):
                            no, yes = axis.marks
                            slider = gr.Slider(
                                axis.low,
                                axis.high,
                                axis.nearest(no),
                                step=axis.step,
                                label=f"{axis.name}: 0 at {no:.2g}, 1 at {yes:.2g}",
                                scale=5,
                                min_width=250,
                                buttons=[],
                            )
                            words = (f"{verb} 0", f"{verb} 1", "swap")
                            buttons = [gr.Button(word, size="sm", scale=1, min_width=56) for word in words]
                            rows.append((slider, buttons))
        return rows, [gr.Button("back to the point as encoded", size="sm", elem_id="reset")]

    # --- what follows on a click

    def point(self, index: Any) -> Tensor:
        """One test point ``[1, ...]``."""
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.x):
            raise InputError(f"{index!r} is no test point; a whole number from 0 to {len(self.x) - 1} is needed")
        return unit_scale(self.x[index : index + 1])

    def step(self, step: int, index: Any) -> int:
        """The point before or after, or any."""
        if step == 0:
            return random.randrange(len(self.x))
        return (index + step) % len(self.x) if isinstance(index, int) else 0

    def pick(self, index: Any, second: Any) -> tuple[Any, ...]:
        """All that shows a point."""
        if index is None:
            return (gr.skip(),) * (7 + len(self.sliders))
        x = self.point(index)
        probs = explore.probabilities(self.model, x)
        code = explore.encoded(self.model, x) if self.reconstructs else None
        visit = Visit(index, code, self.starts(code), None if probs is None else tuple(probs))
        pictures = [html.picture(x[0], f"test point {index}", f"{self.name}-{index}")]
        if code is not None:
            recon = explore.decoded(self.model, code)
            name = f"{self.name}-{index}-reconstruction"
            pictures.append(html.picture(recon, "reconstruction", name, x[0]))
        truth = html.quiet(f"label: {named(self.model, self.whole.y_test[index]) or 'not known'}")
        found = explore.latents(self.model, x)
        posterior = "" if found is None else html.intervals(*found)
        edited, bars = self.edited(visit, code) if self.sliders else (self.swap(visit, second), self.bars(visit, None))
        grid = self.grid(visit) if self.gridded else ""
        return visit, truth, html.page(*pictures), posterior, edited, bars, grid, *visit.start

    def starts(self, code: Tensor | None) -> tuple[float, ...]:
        """Where the sliders stand."""
        return () if code is None else tuple(axis.at(code) for axis in self.sliders)

    def edited(self, visit: Visit, code: Tensor | None) -> tuple[str, str]:
        """The edited point, and what the model reads on its picture."""
        assert code is not None
        image = explore.decoded(self.model, code)
        drawn = html.picture(image, "edited", f"{self.name}-{visit.index}-edited", self.point(visit.index)[0])
        read = explore.probabilities(self.model, image[None])
        return html.page(drawn), self.bars(visit, read)

    def bars(self, visit: Visit, read: list[float] | None) -> str:
        """The probabilities of a point and, of an edited one, what is read on its picture."""
        labels = self.model.labels
        if visit.probs is None or labels is None:
            return html.quiet("this model knows no labels")
        y = self.whole.y_test[visit.index]
        known = [int(y)] if isinstance(labels, ClassLabels) else (y == 1).nonzero().flatten().tolist()
        known = [i for i in known if i != MISSING]
        return html.bars(labels.names, visit.probs, read, known, "as edited")

    def slide(self, visit: Visit | None, *values: Any) -> tuple[str, str]:
        """A slider moves."""
        visit = there(visit)
        return self.edited(visit, self.moved(visit, values))

    def moved(self, visit: Visit, values: tuple[Any, ...]) -> Tensor:
        assert visit.code is not None
        return explore.moved(self.sliders, visit.code, visit.start, values)

    def changed(self, visit: Visit, code: Tensor) -> tuple[Any, ...]:
        """A new code: the sliders go to where it stands."""
        visit = replace(visit, code=code, start=self.starts(code), seed=visit.seed + 1)
        return visit, *self.edited(visit, code), *visit.start

    def draw(self, i: int, value: int, visit: Visit | None, *values: Any) -> tuple[Any, ...]:
        """Draw an attribute's characteristic from p(z_c | y = value)."""
        visit = there(visit)
        return self.changed(visit, explore.redrawn(self.sliders[i], self.moved(visit, values), value, visit.seed))

    def take(self, i: int, visit: Visit | None, second: Any, *values: Any) -> tuple[Any, ...]:
        """Take an attribute's characteristic from the second point."""
        visit = there(visit)
        donor = explore.encoded(self.model, self.point(second))
        return self.changed(visit, explore.taken(self.sliders[i], self.moved(visit, values), donor))

    def reset(self, visit: Visit | None) -> tuple[Any, ...]:
        """The point as it was encoded."""
        visit = there(visit)
        return self.changed(visit, explore.encoded(self.model, self.point(visit.index)))

    def show_second(self, second: Any) -> str:
        """The second point, small."""
        if second is None or not self.pairs:
            return ""
        words = named(self.model, self.whole.y_test[second]) if isinstance(second, int) else ""
        return html.small(self.point(second)[0], words)

    def swap(self, visit: Visit | None, second: Any) -> str:
        """The point with the second one's characteristic."""
        if second is None or visit is None or not self.pairs:
            return ""
        x = self.point(visit.index)
        found = explore.swapped(self.model, x, self.point(second))
        assert found is not None
        name = f"{self.name}-{visit.index}-with-{second}"
        return html.page(
            *(
                html.picture(image, f"with {column} of point {second}", f"{name}-{column}", x[0])
                for image, column in zip(found.images[0], found.columns, strict=True)
            )
        )

    def restyle(self, visit: Visit | None) -> tuple[Visit, str]:
        """Other styles in the grid."""
        visit = replace(there(visit), seed=there(visit).seed + 1)
        return visit, self.grid(visit)

    def grid(self, visit: Visit) -> str:
        found = explore.grid(self.model, self.point(visit.index), seed=visit.seed)
        return "" if found is None else html.table(found, f"{self.name}-{visit.index}-grid")


def there(visit: Visit | None) -> Visit:
    """The visitor's state, which is dropped when a page has long not been used."""
    if visit is None:
        raise InputError("this page has been idle for long; load it again")
    return visit


def told(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose errors are words on the page, and no traceback anywhere."""

    @functools.wraps(handler)
    def wrapped(*values: Any) -> Any:
        try:
            return handler(*values)
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except Exception as error:
            logging.getLogger(__name__).warning("explore: %s: %s", type(error).__name__, error)
            words = f"this cannot be shown ({type(error).__name__}); the terminal says more, and the page goes on"
            raise gr.Error(words, print_exception=False) from None

    return wrapped


# --- how it is served


def listen(port: int | None) -> socket.socket:
    """A socket on 127.0.0.1 at the port, by default at the first free one from 7860.

    :raises InputError: a port that is taken.
    """
    for number in [port] if port is not None else range(7860, 7960):
        found = socket.socket()
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, number))
        except OSError as error:
            found.close()
            reason = error.strerror
            continue
        found.listen(64)
        return found
    taken = f"--port {port}" if port is not None else "--port: 7860 to 7959"
    raise InputError(f"{taken}: cannot be listened on ({reason}); another port is needed")


class WithoutFiles:
    """An ASGI application that lets no request through to gradio's routes that take or give files: the page needs none.

    It also tells browsers to fetch nothing from elsewhere.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith(CLOSED):
            await PlainTextResponse("not here", 404)(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, guarded)


POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)


def make_app(page: gr.Blocks) -> FastAPI:
    """The page as an application that serves no files and answers to this machine's own names alone."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(WithoutFiles)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    plain = gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    page.queue(default_concurrency_limit=4)
    return gr.mount_gradio_app(
        app, page, "/", server_name=HOST, footer_links=[], allowed_paths=[], show_error=False,
        max_file_size=1, ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False, theme=plain,
        css=html.STYLE,
    )  # fmt: skip


def serve(page: gr.Blocks, at: socket.socket, *, browser: bool = True) -> None:
    """Serve the page until Ctrl-C."""
    torch.set_num_threads(1)  # one point at a time gains nothing from a second one, and waits for it
    config = uvicorn.Config(make_app(page), log_level="critical", access_log=False, timeout_graceful_shutdown=1)
    url = f"http://{HOST}:{at.getsockname()[1]}/"
    print(f"page: {url}\nCtrl-C closes it", flush=True)
    if browser:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[at])
    print("closed")
