"""Data sets that torchvision fetches where they are absent."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..errors import InputError
from .checks import reason

T = TypeVar("T")
SECONDS = 30
"""How long a download may be silent before it counts as failed."""


def downloaded(fetch: Callable[[], T], name: str, place: Path, files: str, holder: str) -> T:
    """Return what ``fetch`` does.

    :param name: of the data set, for the error.
    :param place: where its ``files`` belong.
    :param holder: what lies in the folder that ``PYRO_SSVAE_DATA`` names.
    :raises InputError: it fails.
    """
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        return fetch()
    except Exception as error:  # no network, no space, no right to write, a file that is not the expected one
        raise InputError(
            f"{name}: not in {place}, and the download failed ({reason(error)}); put {files} there, or set "
            f"PYRO_SSVAE_DATA to the folder that holds {holder}"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)
