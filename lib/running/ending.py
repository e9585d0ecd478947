"""Ending what a process has started, jobs of jobs and kernels too, within seconds."""

import contextlib
import subprocess
from collections.abc import Iterable

import psutil

GRACE = 2.0  # seconds between SIGTERM and SIGKILL


def end(started: Iterable[subprocess.Popen]) -> None:
    """End processes and all that run below them.

    Those given are killed at once, so that none starts another job while its jobs end; what runs below them gets
    SIGTERM, and SIGKILL after `GRACE` seconds.
    """
    _end([process for one in started if one.poll() is None for process in _known(one.pid)])


def end_children() -> None:
    """End all that runs below this process, as `end` does."""
    _end(psutil.Process().children())


def _known(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [psutil.Process(pid)]
    return []


def _end(conductors: list[psutil.Process]) -> None:
    below: list[psutil.Process] = []
    for process in conductors:
        with contextlib.suppress(psutil.Error):
            process.suspend()  # what it starts from here on would be missed
            below += process.children(recursive=True)
    for process in conductors:
        with contextlib.suppress(psutil.Error):
            process.kill()
    for process in below:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, running = psutil.wait_procs([*conductors, *below], timeout=GRACE)
    for process in running:
        with contextlib.suppress(psutil.Error):
            for one in [process, *process.children(recursive=True)]:
                one.kill()
    psutil.wait_procs(running, timeout=GRACE / 2)
