"""The text of the committed notebooks says what each table and figure shows, and no number stands in it alone."""

import pytest

from lib import paths
from lib.running import contract, prose

NOTEBOOKS = sorted(path for path in paths.NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=contract.name)
def test_a_sentence_follows_each_table_and_figure(path):
    assert [str(one) for one in prose.untold(contract.read(path))] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=contract.name)
def test_numbers_in_text_stand_in_an_output_too(path):
    assert prose.unfounded(contract.read(path), path.parent) == []
