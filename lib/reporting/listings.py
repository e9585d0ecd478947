"""The lines of `lib` behind an equation, shown beside it from the source itself, so that no copy can grow old."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any


def show(code: Callable[..., Any], first: str = "", last: str = "") -> None:
    """Show a function of `lib` in a notebook, see `listing`, under the name of its file."""
    from IPython.display import Markdown, display

    file = Path(inspect.getsourcefile(inspect.unwrap(code)) or "")  # below a decorator such as `torch.no_grad`
    name = f"lib/{file.relative_to(Path(__file__).parents[1]).as_posix()}"
    display(Markdown(f"`{code.__name__}` in `{name}`:\n\n```python\n{listing(code, first, last)}\n```"))


def listing(code: Callable[..., Any], first: str = "", last: str = "") -> str:
    """Return the source of a function without its docstring, from the line with `first` to the one with `last`.

    The first line that holds each counts, `last` from `first` on; empty is the beginning and the end. Lines are moved
    to the left. Raises `ValueError` where no line holds one of the two: the source has changed.
    """
    source = textwrap.dedent(inspect.getsource(code))
    lines = source.splitlines()
    body = ast.parse(source).body[0].body  # type: ignore[attr-defined]  # a function has one
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        del lines[body[0].lineno - 1 : body[0].end_lineno]
    start = _place(lines, first, 0, code)
    end = _place(lines, last, start, code) if last else len(lines) - 1
    return textwrap.dedent("\n".join(lines[start : end + 1])).rstrip()


def _place(lines: list[str], text: str, start: int, code: Callable[..., Any]) -> int:
    for place in range(start, len(lines)):
        if text in lines[place]:
            return place
    raise ValueError(f"{code.__name__} has no line with {text!r}: say again which lines are shown")
