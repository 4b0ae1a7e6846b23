"""Whether the words of a figure can be read: none lies upon another, none leaves the page."""

from __future__ import annotations

from itertools import combinations

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def texts_apart(figure: Figure) -> bool:
    """No two texts overlap, and none leaves the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = []
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_text() and text.get_visible() and text.get_window_extent(renderer).width:
            boxes.append((text.get_text(), text.get_window_extent(renderer)))
    # ticks beyond an axis' limits are not drawn, yet found
    boxes = [(word, box) for word, box in boxes if _drawn(figure, word, box)]
    assert len(boxes) > 1
    for (one, a), (two, b) in combinations(boxes, 2):
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width < 1.5 or height < 1.5, f"{one!r} overlaps {two!r}"
    page = figure.bbox
    for word, box in boxes:
        inside = box.x0 > -1 and box.y0 > -1 and box.x1 < page.x1 + 1 and box.y1 < page.y1 + 1
        assert inside, f"{word!r} leaves the page: {box}"
    return True


def _drawn(figure: Figure, word: str, box: matplotlib.transforms.Bbox) -> bool:
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                for label in (tick.label1, tick.label2):
                    if label.get_text() == word and label.get_window_extent().bounds == box.bounds:
                        slack = 1e-6 * (high - low)
                        return label.get_visible() and low - slack <= tick.get_loc() <= high + slack
    return True
