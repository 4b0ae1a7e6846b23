"""Plots of trained models, in one style: readable in grey and for the colour-blind.

Each function returns a matplotlib figure that no global state knows of. Those of one panel take ``ax``, to draw into
a figure of one's own, and then return that figure. Matplotlib is imported when a name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .calibration import reliability
    from .interventions import intervention_draws, intervention_table, swap_table, swaps, walk
    from .latents import latent_space
    from .metrics import attribute_bars, confusion_matrix, intervention_bars, learning_curves
    from .points import contact_sheet, reconstructions, samples, samples_by_class
    from .posterior import expected_points, inspection, label_bars, latent_intervals, term_bars
    from .style import BLUE, COLOURS, DASHES, GREEN, GREY, MARKERS, ORANGE, STYLE, VERMILLION, dress, styled
    from .summary import save_all
    from .tables import Units, units_of

__all__ = [
    "BLUE",
    "COLOURS",
    "DASHES",
    "GREEN",
    "GREY",
    "MARKERS",
    "ORANGE",
    "STYLE",
    "VERMILLION",
    "Units",
    "attribute_bars",
    "confusion_matrix",
    "contact_sheet",
    "dress",
    "expected_points",
    "inspection",
    "intervention_bars",
    "intervention_draws",
    "intervention_table",
    "label_bars",
    "latent_intervals",
    "latent_space",
    "learning_curves",
    "reconstructions",
    "reliability",
    "samples",
    "samples_by_class",
    "save_all",
    "styled",
    "swap_table",
    "swaps",
    "term_bars",
    "units_of",
    "walk",
]

_FILES = {
    "calibration": ["reliability"],
    "interventions": ["intervention_draws", "intervention_table", "swap_table", "swaps", "walk"],
    "latents": ["latent_space"],
    "metrics": ["attribute_bars", "confusion_matrix", "intervention_bars", "learning_curves"],
    "points": ["contact_sheet", "reconstructions", "samples", "samples_by_class"],
    "posterior": ["expected_points", "inspection", "label_bars", "latent_intervals", "term_bars"],
    "style": [
        *("BLUE", "COLOURS", "DASHES", "GREEN", "GREY", "MARKERS", "ORANGE", "STYLE", "VERMILLION"),
        *("dress", "styled"),
    ],
    "summary": ["save_all"],
    "tables": ["Units", "units_of"],
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
