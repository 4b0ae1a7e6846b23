"""What the help says of each option: the lines below a dataclass' field, as one paragraph."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from functools import cache
from itertools import pairwise


@cache
def field_help(kind: type) -> dict[str, str]:
    """Return the words below each field of a dataclass and of its bases.

    Lines are joined, to be wrapped anew by whoever shows them; thousands lose their comma, at which a line would break.
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        except (OSError, TypeError, IndentationError):  # made without a source, as by make_dataclass
            continue
        lines = body.body if isinstance(body, ast.ClassDef) else []
        for field, words in pairwise(lines):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text(words):
                found[field.target.id] = paragraph(ast.literal_eval(words.value))  # type: ignore[attr-defined]
    return found


def is_text(line: ast.stmt) -> bool:
    """Whether a statement is a text alone."""
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def paragraph(text: str) -> str:
    """Return a text on one line, 2,000 as 2000."""
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", " ".join(text.split()))
