"""The rooms of the package: arrows go one way, no circle, no long function, no probe of a model, few ``Any``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pyro_ssvae"

# A file may import from its own room and from rooms below it.
ROOMS = [
    {"cli"},
    {"studies"},
    {"experiment"},
    {"benchmark", "explore", "scikit_learn"},
    {"plots"},
    {"evaluation"},
    {"train"},
    {"models"},
    {"infer"},
    {"data"},
    {"nn"},
    {"labels", "files", "distributed"},
    {"label_arrays"},
    {"distributions"},
    {"errors"},
]
FORBIDDEN = {("plots", "train"), ("train", "models"), ("train", "evaluation")}
MOST_LINES, MOST_ANY, MOST_MODULES, MOST_PACKAGES = 60, 198, 8, 13

# A question about something else than a model, and why it cannot be put another way.
PROBES = {
    "cli/study.py": "a word of the command line that is no option of the study",
    "data/checks.py": "an OSError has words of its own, other exceptions have none",
    "evaluation/posterior.py": "a distribution may hold another one, masked or as one event",
    "nn/networks.py": "an encoder of one's own says its width, or a layer of it does",
    "studies/run.py": "some systems do not tell the cores of a process",
    "train/allocator.py": "a function of the C library, which another one lacks",
    "train/capture.py": "hooks of a tensor, constants of a captured graph",
    "train/python_state.py": "objects of any kind, whose attributes are a program's state",
}


@cache
def files() -> dict[str, ast.Module]:
    """Every file of the package by its path, such as ``models/m2.py``, as a tree."""
    found = sorted(path for path in PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in found}


def room_of(file: str) -> str:
    """The folder of a file, or the module's own name; of ``__init__`` and ``__main__`` the empty word."""
    room = file.split("/")[0].removesuffix(".py")
    return "" if room in ("__init__", "__main__") else room


def file_of(parts: list[str]) -> str | None:
    """The file of a module, None where there is none of that name."""
    for path in ("/".join(parts) + ".py", "/".join([*parts, "__init__.py"])):
        if path in files():
            return path
    return None


def imported(file: str) -> Iterator[tuple[int, str]]:
    """Line and file of each import from the package, those within functions and under TYPE_CHECKING too."""
    here = file.split("/")[:-1]
    for node in ast.walk(files()[file]):
        if isinstance(node, ast.Import):
            for name in node.names:
                parts = name.name.split(".")
                if parts[0] == PACKAGE.name:
                    yield node.lineno, file_of(parts[1:]) or "__init__.py"
        elif isinstance(node, ast.ImportFrom):
            parts = node.module.split(".") if node.module else []
            if node.level:
                base = here[: len(here) - node.level + 1] + parts
            elif parts and parts[0] == PACKAGE.name:
                base = parts[1:]
            else:
                continue
            for name in node.names:
                yield node.lineno, file_of([*base, name.name]) or file_of(base) or "__init__.py"


def test_every_room_has_its_place() -> None:
    rooms = {room_of(file) for file in files()} - {""}
    assert rooms == set.union(*ROOMS)


def test_arrows_go_one_way() -> None:
    place = {room: i for i, rooms in enumerate(ROOMS) for room in rooms}
    wrong = []
    for file in files():
        room = room_of(file)
        for line, other in imported(file) if room else ():
            to = room_of(other)
            if to == room:
                continue
            if not to or place[to] <= place[room] or (room, to) in FORBIDDEN:
                wrong.append(f"{file}:{line} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_no_file_imports_itself_through_others() -> None:
    graph = {file: {other for _, other in imported(file)} - {file} for file in files()}
    done: set[str] = set()
    circles = []

    def visit(file: str, path: list[str]) -> None:
        if file in path:
            circles.append(" -> ".join([*path[path.index(file) :], file]))
        elif file not in done:
            for other in sorted(graph[file]):
                visit(other, [*path, file])
            done.add(file)

    for file in graph:
        visit(file, [])
    assert not circles, "\n".join(circles)


def test_few_modules_and_packages_stand_at_the_top() -> None:
    modules = list(PACKAGE.glob("*.py"))
    packages = [path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    assert len(modules) <= MOST_MODULES
    assert len(packages) <= MOST_PACKAGES
    assert not [path for path in packages if [*path.glob("*/*.py")]], "rooms have no rooms in them"


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef, source: list[str]) -> int:
    """Lines from ``def`` to the end without docstrings, blank lines and comments."""
    lines = set(range(function.lineno, (function.end_lineno or function.lineno) + 1))
    for node in ast.walk(function):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return sum(bool(source[line - 1].strip()) and not source[line - 1].strip().startswith("#") for line in lines)


def test_no_function_is_long() -> None:
    long = []
    for file, tree in files().items():
        source = (PACKAGE / file).read_text("utf-8").splitlines()
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                n = lines_of_code(node, source)
                if n > MOST_LINES:
                    long.append(f"{file}:{node.lineno} {node.name}: {n} lines")
    assert not long, "\n".join(long)


def probes(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls of ``hasattr``, and of ``getattr`` with a value for what is not there."""
    for node in ast.walk(tree):
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
        if isinstance(node, ast.Call) and (name == "hasattr" or (name == "getattr" and len(node.args) == 3)):
            yield node


def test_what_a_model_can_do_is_asked_by_protocol() -> None:
    """``isinstance(model, Classifies)`` and ``require(model, Intervenes)``: pyro_ssvae/infer/protocols.py."""
    wrong = []
    for file, tree in files().items():
        if room_of(file) not in ("models", "infer") and file not in PROBES:
            wrong += [f"{file}:{node.lineno} {ast.unparse(node)}" for node in probes(tree)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", PROBES)
def test_every_reason_for_a_probe_is_still_there(file: str) -> None:
    assert [*probes(files()[file])], f"{file} has none any more: take it out of PROBES"


def test_no_model_is_asked_for_by_its_class() -> None:
    """Outside of models/, ``isinstance`` goes by protocol; a class of the library is one of several that can."""
    classes = {
        node.name
        for file, tree in files().items()
        if room_of(file) == "models"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and "Config" not in node.name
    }
    wrong = []
    for file, tree in files().items():
        for node in ast.walk(tree) if room_of(file) not in ("models", "") else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                asked = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
                if asked & classes:
                    wrong.append(f"{file}:{node.lineno} {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)


def test_any_is_rare() -> None:
    counts = {file: len(re.findall(r"\bAny\b", (PACKAGE / file).read_text("utf-8"))) for file in files()}
    most = sorted(((n, file) for file, n in counts.items() if n), reverse=True)
    assert sum(counts.values()) <= MOST_ANY, f"{sum(counts.values())}: {most[:12]}"
