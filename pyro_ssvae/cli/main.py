"""The command line: it finds the command, calls it, and turns what went wrong into one line."""

from __future__ import annotations

import ast
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from inspect import cleandoc
from types import ModuleType

from ..errors import InputError, nearest

ABOUT = """Semi-supervised variational autoencoders on Pyro: many data points, few labels.

Example: pyro-ssvae train --data mnist --labels 100
"""
COMMANDS = (
    "train", "predict", "evaluate", "generate", "intervene", "swap", "walk", "inspect", "explore", "suggest", "study",
    "benchmark",
)  # fmt: skip
"""Each is a module with ``parse(arguments)`` and ``run(options)``; its docstring is its help."""
BROKEN_PIPE = 128 + 13
"""The exit status of a program that SIGPIPE ends."""
SPINS = "1000"
"""What PyTorch's threads spin for before they sleep; OpenMP's own number where threads outnumber processors."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status: 0, 1 where cells failed or a process was lost, 2 for bad input, 130
    if stopped."""
    if "OMP_WAIT_POLICY" not in os.environ:  # threads that spin keep a busy machine's processors from each other
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when PyTorch is loaded, by what follows
    try:
        try:
            return answer(sys.argv[1:] if arguments is None else list(arguments))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # as in `pyro-ssvae … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left at its end
        return BROKEN_PIPE


def answer(arguments: Sequence[str]) -> int:
    """Do what the arguments say; what went wrong is one line on stderr."""
    try:
        return run(*parse(arguments))
    except InputError as error:
        print(f"pyro-ssvae: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:  # a disk that is full or read-only, where nobody else has said so
        print(f"pyro-ssvae: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pyro-ssvae: stopped", file=sys.stderr)
        return 130


def parse(arguments: Sequence[str]) -> tuple[ModuleType, object]:
    """Return the command's module and its options.

    :raises InputError: on what cannot be used.
    :raises SystemExit: after help was asked for and given.
    """
    if arguments[:1] in (["-h"], ["--help"]):
        print(overview())
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        raise InputError(f"a command is needed: {', '.join(COMMANDS)}; see pyro-ssvae --help")
    name, *rest = arguments
    if name not in COMMANDS:
        raise InputError(f"there is no command {name!r}{nearest(name, COMMANDS)}")
    command = import_module(f"{__package__}.{name}")
    return command, command.parse(rest)


def run(command: ModuleType, options: object) -> int:
    """Run a command and return its exit status."""
    from ..data.notices import once
    from ..train.launch import WorkerLost
    from ..train.progress import Interrupted

    with warnings.catch_warnings(), once():
        # Pyro's, on what a message of our own says, and on units that are not trained.
        warnings.filterwarnings("ignore", "Encountered .*(NaN|inf)|.* was not registered in the param store")
        try:
            return command.run(options) or 0
        except Interrupted as error:
            print(f"pyro-ssvae: {error}", file=sys.stderr)
            return 1 if isinstance(error, WorkerLost) else 130


def overview() -> str:
    """Return the help of the whole program."""
    lines = [f"  {name:10} {about(name).splitlines()[0]}" for name in COMMANDS]
    return "\n".join(
        ["usage: pyro-ssvae COMMAND [OPTIONS]", "", ABOUT, *lines, "", "Options: pyro-ssvae COMMAND --help"]
    )


def about(command: str) -> str:
    """Return a command's help, the docstring of its module, without importing what the command needs."""
    spec = find_spec(f"{__package__}.{command}")
    assert spec is not None
    assert spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        return cleandoc(ast.get_docstring(ast.parse(file.read())) or "")


if __name__ == "__main__":
    sys.exit(main())
