"""What every test runs under: records are read and never computed, no bars, one thread, and the project's own files;
property tests draw the same examples in every run.
"""

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

# Set before anything imports torch; kernels and commands that tests start inherit it.
os.environ |= {
    "REPRODUCTION_PROGRESS": "0",
    "REPRODUCTION_RECORDS": "read",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    "PYTHONHASHSEED": "0",
    "COLUMNS": "80",
    "TZ": "UTC",
}
for name in ("REPRODUCTION_ROOT", "REPRODUCTION_WORK_ROOT", "REPRODUCTION_STALE", "REPRODUCTION_TALLY"):
    os.environ.pop(name, None)

# A run of the tests must not depend on luck, nor on how busy the machine is: each property draws the examples that its
# own code decides on. `make fuzz` asks for the other profile, which draws new ones every time and keeps what failed.
_NO_CLOCK = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fixed", derandomize=True, **_NO_CLOCK)
settings.register_profile("fresh", derandomize=False, print_blob=True, **_NO_CLOCK)
settings.load_profile("fixed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file on one worker of xdist, for their shared fixtures; the long ones begin first."""
    items.sort(key=lambda item: not item.get_closest_marker("xdist_group"))
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture(autouse=True)
def _own_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a table name the records that its own test reads, and not those of the tests before."""
    if provenance := sys.modules.get("lib.reporting.provenance"):
        monkeypatch.setattr(provenance, "_ALL", {})
