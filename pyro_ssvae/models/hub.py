"""Models on the Hugging Face Hub: addresses, and what is fetched from there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from ..errors import InputError

ADDRESS = "hf://"
FETCHED = ["*.json", "*.safetensors"]
"""Files of a repository that are fetched: nothing in them can be run."""


def repository(name: str) -> tuple[str, str | None]:
    """Return ``owner/name`` and the revision of an address ``hf://owner/name`` or ``hf://owner/name@revision``.

    :raises InputError: anything else.
    """
    found = re.fullmatch(r"(?:hf://)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", str(name), re.ASCII)
    if found is None:
        raise InputError(f"hub: {name!r}; owner/name is needed, such as hf://ada/digits or hf://ada/digits@main")
    return found[1], found[2]


def check_client() -> None:
    """Raise :class:`InputError` where the package ``huggingface_hub`` is absent."""
    if find_spec("huggingface_hub") is None:
        raise InputError("hub: the package huggingface_hub is absent; pip install pyro_ssvae[hub]")


def failed(address: str, error: Exception) -> InputError:
    """Return the error of a hub that did not answer as it should, with its cause."""
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{address}: the hub says no ({type(error).__name__}: {reason})")


def download(address: str) -> Path:
    """Return the folder, in the hub client's cache, of a model's files.

    :param address: ``hf://owner/name``, or ``hf://owner/name@revision``.
    :raises InputError: another address, no such repository, or a hub that cannot be reached.
    """
    name, revision = repository(address)
    check_client()
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=FETCHED))
    except Exception as error:  # of the client's own kinds, and of what it is built on
        raise failed(address, error) from None
