"""What the tests of this room share."""

import pytest

from lib.series.lemoe.workbench import Workbench
from tests.series.lemoe import tiny_runs


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return tiny_runs.bench()
