"""What every test runs under: records are read and never computed, no bars, one thread, and the project's own files."""

import os

import pytest

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
}
for name in ("REPRODUCTION_ROOT", "REPRODUCTION_WORK_ROOT", "REPRODUCTION_STALE", "REPRODUCTION_TALLY"):
    os.environ.pop(name, None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file on one worker of xdist, for their shared fixtures; the long ones begin first."""
    items.sort(key=lambda item: not item.get_closest_marker("xdist_group"))
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.name))
