"""A figure is drawn and saved in one cell: what a reader changes in it is then what is written."""

import ast
import json

import pytest

from lib import paths
from lib.running import contract

NOTEBOOKS = sorted(path for path in paths.NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def saved_elsewhere(sources: list[str]) -> list[str]:
    """Return the figures that a cell saves without having drawn them, and those that it draws and nobody saves."""
    found = []
    for number, source in enumerate(sources, 1):
        tree = ast.parse("\n".join("pass" if line.startswith(("%", "!")) else line for line in source.splitlines()))
        bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        saved = [call for call in calls if ast.unparse(call.func) == "figures.save"]
        names = [call.args[0].id for call in saved if call.args and isinstance(call.args[0], ast.Name)]
        found += [f"cell {number} saves {name} of another cell" for name in names if name not in bound]
        if not saved and any(ast.unparse(call.func) in ("plt.subplots", "plt.figure") for call in calls):
            found.append(f"cell {number} draws a figure and does not save it")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=contract.name)
def test_figures_are_drawn_and_saved_in_one_cell(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert saved_elsewhere(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]) == []


def test_a_figure_that_is_finished_in_the_next_cell_is_named():
    drawn, saved = "figure, axes = plt.subplots()\naxes.plot([1])", "figures.save(figure, 'a/b', {}, profile, 'c')"
    assert saved_elsewhere([f"{drawn}\n{saved}"]) == []
    assert saved_elsewhere([drawn, saved]) == [
        "cell 1 draws a figure and does not save it",
        "cell 2 saves figure of another cell",
    ]
