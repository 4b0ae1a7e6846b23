"""What the arrays of an npz file are: by their usual names, and what was not used is said."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from .checks import shown
from .notices import say

ARRAYS = ("x", "y", "x_test", "y_test", "names")
OTHER_NAMES = {
    "x": (
        *("X", "x_train", "X_train", "train_x", "train_X", "train_images", "train_data", "data", "features"),
        *("inputs", "images"),
    ),
    "y": ("Y", "y_train", "Y_train", "train_y", "train_Y", "train_labels", "labels", "label", "targets", "target"),
    "x_test": ("X_test", "test_x", "test_X", "test_images", "test_data"),
    "y_test": ("Y_test", "test_y", "test_Y", "test_labels", "labels_test"),
    "names": ("class_names", "target_names", "label_names", "attribute_names"),
}
"""What other programs call these arrays."""
X_NAMES = ("x", "X", "data", "features", "inputs", "input", "image", "images", "img", "pixel_values")
Y_NAMES = ("y", "Y", "label", "labels", "target", "targets", "class", "classes")
"""What points and labels are called in files and data sets, the first found counts."""
POSITIONS = {"x": "arr_0", "y": "arr_1"}
"""What np.savez calls arrays that are given without a name."""


def by_usual_names(there: Collection[str]) -> dict[str, str]:
    """Return which of some names stands for each of :data:`ARRAYS`: its own, or the first of its other names."""
    found = {}
    for name in ARRAYS:
        own = next((other for other in (name, *OTHER_NAMES[name], POSITIONS.get(name, "")) if other in there), None)
        if own is not None:
            found[name] = own
    return found


def say_names(path: Path, used: dict[str, str], there: Collection[str]) -> None:
    """Say which arrays were taken for others, and which are not used."""
    others = [f"{shown(own)} is taken for {name}" for name, own in used.items() if own != name]
    unused = sorted(set(there) - set(used.values()))
    if others:
        say(f"{path}: {', '.join(others)}")
    if unused:
        more = f" and {len(unused) - 5} more" if len(unused) > 5 else ""
        say(f"{path}: not used: {', '.join(map(shown, unused[:5]))}{more}; the arrays are {', '.join(ARRAYS)}")
