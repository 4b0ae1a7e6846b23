"""Data: points with labels of which any may be missing, from a name, a file or a folder.

:func:`load` reads whatever a person names; :func:`hide_labels`, :func:`hide_classes`, :func:`leave_out` and
:func:`hold_out` make of it what an experiment needs.
"""

from .arrays import load_npz
from .avatar_labels import Factors
from .avatars import avatar_factors
from .dataset import Dataset, digest, fingerprint
from .folder import load_folder, training_files
from .label_file import add_labels, label_file_text
from .sources import NAMES, factors_of, load
from .splits import hide_classes, hide_labels, hold_out, known_rows, leave_out, split_rows

__all__ = [
    "NAMES",
    "Dataset",
    "Factors",
    "add_labels",
    "avatar_factors",
    "digest",
    "factors_of",
    "fingerprint",
    "hide_classes",
    "hide_labels",
    "hold_out",
    "known_rows",
    "label_file_text",
    "leave_out",
    "load",
    "load_folder",
    "load_npz",
    "split_rows",
    "training_files",
]
