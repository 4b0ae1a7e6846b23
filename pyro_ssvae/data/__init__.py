"""Data: points with labels of which any may be missing, from a name, a file or a folder.

:func:`load` reads whatever a person names; :func:`hide_labels`, :func:`hide_classes`, :func:`leave_out` and
:func:`hold_out` make of it what an experiment needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .arrays import load_npz
from .avatars import avatar_factors
from .dataset import Dataset, Table, digest, fingerprint
from .factors import Factors
from .folder import load_folder, training_files
from .label_file import add_labels, label_file_text
from .schema import Column, Schema
from .sources import NAMES, factors_of, load
from .splits import hide_classes, hide_labels, hold_out, known_rows, leave_out, split_rows

if TYPE_CHECKING:
    from .table_data import read_table
    from .tables import decode, encode

__all__ = [
    "NAMES",
    "Column",
    "Dataset",
    "Factors",
    "Schema",
    "Table",
    "add_labels",
    "avatar_factors",
    "decode",
    "digest",
    "encode",
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
    "read_table",
    "split_rows",
    "training_files",
]

_TABLES = {"read_table": "table_data", "encode": "tables", "decode": "tables"}  # which need pandas


def __getattr__(name: str) -> object:
    if name not in _TABLES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_TABLES[name]}"), name)
    globals()[name] = value
    return value
