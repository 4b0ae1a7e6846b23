"""What follows on a click: the handlers of the page's events, from a visitor's state to what is shown.

Images and numbers are computed in :mod:`~pyro_ssvae.explore.view`, :mod:`~pyro_ssvae.explore.sliders` and
:mod:`~pyro_ssvae.explore.grids`, and drawn in :mod:`~pyro_ssvae.explore.html`. A visitor's state (:class:`Visit`) is
kept by gradio, a copy for each open page; nothing else changes while the page is served.
"""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ..data import Dataset
from ..data.augment import unit_scale
from ..data.label_words import answers
from ..errors import InputError
from ..infer.protocols import Generates
from ..labels import MISSING, ClassLabels
from ..models import Model
from ..plots.tables import units_of
from . import grids, html, view
from . import sliders as lines
from .offline import gr


@dataclass(frozen=True)
class Visit:
    """What one visitor sees.

    :ivar index: the test point.
    :ivar code: where the edited point stands when the sliders are at ``start``.
    :ivar probs: q(y | x) of the point.
    :ivar recon: its reconstruction, which an edited point is compared with.
    :ivar recon_probs: q(y | x) of that.
    :ivar seed: of the next draw.
    """

    index: int
    code: Tensor | None
    start: tuple[float, ...]
    probs: tuple[float, ...] | None
    recon: Tensor | None = None
    recon_probs: tuple[float, ...] | None = None
    seed: int = 0


class Handlers:
    """The handlers of the page's events; none of them changes anything here.

    :param name: the run's, for titles and for the names of saved images.
    """

    def __init__(self, model: Model, dataset: Dataset, name: str) -> None:
        self.model, self.dataset, self.name = model, dataset, name
        self.x = dataset.x_test
        self.units = units_of(model, dataset.x_test)
        self.sliders = lines.axes(model)
        self.draws_of_a_label = any(bool(axis.scales[1].any()) for axis in self.sliders)
        self.has_code = isinstance(model, view.Codes)
        x = self.point(0)
        self.pairs = bool(self.sliders) or grids.swapped(model, x, x) is not None
        self.gridded = not self.sliders and isinstance(model, Generates)

    def point(self, index: object) -> Tensor:
        """Return one test point ``[1, ...]``."""
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.x):
            raise InputError(f"{index!r} is no test point; a whole number from 0 to {len(self.x) - 1} is needed")
        return unit_scale(self.x[index : index + 1])

    def step(self, step: int, index: object) -> int:
        """Return the point before or after, or any."""
        if step == 0:
            return random.randrange(len(self.x))
        return (index + step) % len(self.x) if isinstance(index, int) else 0

    def pick(self, index: object, second: object) -> tuple[object, ...]:
        """Return all that shows a point."""
        if index is None:
            return (gr.skip(),) * (7 + len(self.sliders))
        x = self.point(index)
        assert isinstance(index, int)
        probs = view.probabilities(self.model, x)
        code = view.encoded(self.model, x) if self.has_code else None
        recon = None if code is None else view.decoded(self.model, code, x)
        read = None if recon is None or not self.sliders else view.probabilities(self.model, recon[None])
        visit = Visit(index, code, self.starts(code), as_tuple(probs), recon, as_tuple(read))
        pictures = [self.picture(x[0], f"test point {index}", f"{self.name}-{index}")]
        if recon is not None:
            pictures.append(self.picture(recon, "reconstruction", f"{self.name}-{index}-reconstruction", x[0]))
        truth = html.quiet(f"label: {self.label(index) or 'not known'}")
        found = view.latents(self.model, x)
        posterior = "" if found is None else html.intervals(*found)
        edited, bars = self.edited(visit, code) if self.sliders else (self.swap(visit, second), self.bars(visit, None))
        grid = self.grid(visit) if self.gridded else ""
        return visit, truth, html.page(*pictures), posterior, edited, bars, grid, *visit.start

    def picture(self, x: Tensor, words: str, name: str, behind: Tensor | None = None, narrow: bool = False) -> str:
        """Return one point as a picture; of a table its cells, beside those of what it is compared with.

        :param narrow: of a table: the cells of the point alone, in bold where they differ.
        """
        schema = self.model.schema
        if schema is None:
            return html.picture(self.scaled(x), words, name, None if behind is None else self.scaled(behind))
        other = view.cell_words(x, schema.columns)
        if behind is None:  # where there is a reconstruction, the cells stand beside it
            return "" if self.has_code else html.cells(schema.names, other, other, ("", words), both=False)
        own = view.cell_words(behind, schema.columns)
        return html.cells(schema.names, own, other, ("test point", words), both=not narrow)

    def scaled(self, x: Tensor) -> Tensor:
        """Return a point as lines are drawn: of named or few features in standardised units."""
        return x if self.units is None else self.units.standardised(x).float()

    def label(self, index: int) -> str:
        """Return a test point's label in words."""
        return view.label_words(self.model.labels, self.dataset.y_test[index])

    def starts(self, code: Tensor | None) -> tuple[float, ...]:
        """Return where the sliders stand."""
        return () if code is None else tuple(axis.at(code) for axis in self.sliders)

    def edited(self, visit: Visit, code: Tensor | None) -> tuple[str, str]:
        """Return the edited point, and what the model reads on its image."""
        assert code is not None
        x = self.point(visit.index)
        image = view.decoded(self.model, lines.inferred(self.model, self.sliders, x, code), x)
        drawn = self.picture(image, "edited", f"{self.name}-{visit.index}-edited", visit.recon, narrow=True)
        read = view.probabilities(self.model, image[None])
        return html.page(drawn), self.bars(visit, read)

    def bars(self, visit: Visit, read: list[float] | None) -> str:
        """Return the probabilities of a point and, of an edited one, what is read on its image."""
        labels = self.model.labels
        if visit.probs is None or labels is None:
            return html.quiet("this model knows no labels")
        y = self.dataset.y_test[visit.index]
        known = [int(y)] if isinstance(labels, ClassLabels) else (y == 1).nonzero().flatten().tolist()
        known = [i for i in known if i != MISSING]
        shown: dict[str, Sequence[float]] = {"this point": visit.probs}
        if read is not None and visit.recon_probs is not None:
            shown |= {"its reconstruction": visit.recon_probs, "edited": read}
        return html.bars(answers(labels), shown, known)

    def slide(self, visit: Visit | None, *values: object) -> tuple[str, str]:
        """Move a slider."""
        visit = there(visit)
        return self.edited(visit, self.moved(visit, values))

    def moved(self, visit: Visit, values: tuple[object, ...]) -> Tensor:
        """Return the code with the sliders at these values."""
        assert visit.code is not None
        return lines.moved(self.sliders, visit.code, visit.start, values)

    def changed(self, visit: Visit, code: Tensor) -> tuple[object, ...]:
        """Take a new code: the sliders go to where it stands."""
        visit = replace(visit, code=code, start=self.starts(code), seed=visit.seed + 1)
        return visit, *self.edited(visit, code), *visit.start

    def draw(self, i: int, value: int, visit: Visit | None, *values: object) -> tuple[object, ...]:
        """Draw an attribute's characteristic from p(z_c | y = value)."""
        visit = there(visit)
        return self.changed(visit, lines.redrawn(self.sliders[i], self.moved(visit, values), value, visit.seed))

    def take(self, i: int, visit: Visit | None, second: object, *values: object) -> tuple[object, ...]:
        """Take an attribute's characteristic from the second point."""
        visit = there(visit)
        donor = view.encoded(self.model, self.point(second))
        return self.changed(visit, lines.taken(self.sliders[i], self.moved(visit, values), donor))

    def reset(self, visit: Visit | None) -> tuple[object, ...]:
        """Go back to the point as it was encoded."""
        visit = there(visit)
        return self.changed(visit, view.encoded(self.model, self.point(visit.index)))

    def show_second(self, second: object) -> str:
        """Return the second point, small."""
        if second is None or not self.pairs:
            return ""
        words = self.label(second) if isinstance(second, int) else ""
        return html.small(self.scaled(self.point(second)[0]), words)

    def swap(self, visit: Visit | None, second: object) -> str:
        """Return the point with the second one's characteristic."""
        if second is None or visit is None or not self.pairs:
            return ""
        x = self.point(visit.index)
        found = grids.swapped(self.model, x, self.point(second))
        assert found is not None
        name = f"{self.name}-{visit.index}-with-{second}"
        return html.page(
            *(
                self.picture(image, f"with {column} of point {second}", f"{name}-{column}", visit.recon, narrow=True)
                for image, column in zip(found.images[0], found.columns, strict=True)
            )
        )

    def restyle(self, visit: Visit | None) -> tuple[Visit, str]:
        """Draw other styles in the grid."""
        visit = replace(there(visit), seed=there(visit).seed + 1)
        return visit, self.grid(visit)

    def grid(self, visit: Visit) -> str:
        """Return the grid of a point."""
        found = grids.grid(self.model, self.point(visit.index), seed=visit.seed)
        if found is None:
            return ""
        images = self.scaled(found.images) if found.images.dim() == 3 else found.images
        return html.table(replace(found, images=images), f"{self.name}-{visit.index}-grid")


def as_tuple(values: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return numbers as a visitor's state keeps them."""
    return None if values is None else tuple(values)


def there(visit: Visit | None) -> Visit:
    """Return the visitor's state; raise :class:`InputError` where it was dropped because the page lay idle."""
    if visit is None:
        raise InputError("this page has been idle for long; load it again")
    return visit


def in_words(handler: Callable[..., object]) -> Callable[..., object]:
    """Return the handler with its errors as words on the page, and no traceback anywhere."""

    @functools.wraps(handler)
    def wrapped(*values: object) -> object:
        try:
            return handler(*values)
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except Exception as error:
            logging.getLogger(__name__).warning("explore: %s: %s", type(error).__name__, error)
            words = f"this cannot be shown ({type(error).__name__}); the terminal says more, and the page goes on"
            raise gr.Error(words, print_exception=False) from None

    return wrapped
