"""Strict papermill: run one notebook, hold it to its contract, publish what it wrote.

Run as `python -m lib.running.execution NOTEBOOK --profile cpu [-p name value ...] [--record]`.
"""

import argparse
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from papermill.execute import ERROR_MARKER_TAG

from lib import files, paths, profiles
from lib.errors import UserError, command, of_system
from lib.running import contract, ending, kernels, last_runs, parameters
from lib.running.contract import Contract
from lib.running.last_runs import Run

KERNEL = "python3"
START_TIMEOUT = 180  # seconds; a busy machine needs some for a kernel that imports torch

# From 7.3 on, each kernel warns that its sockets on this machine are not encrypted.
QUIET_KERNEL = ["--IPKernelApp.log_level=CRITICAL"]


class NotebookFailedError(Exception):
    """A notebook raised, ran out of time, died, left early or broke its promise; the message is for the terminal."""


class BrokenPromiseError(NotebookFailedError):
    """A notebook ran to its end without writing what it promised."""


def run(
    notebook: Path,
    profile: str = "cpu",
    values: Mapping[str, Any] | None = None,
    output: Path | None = None,
    record: bool = False,
) -> Run:
    """Execute a notebook, check that it wrote what it promised, and publish its figures and tables.

    Publishes to `figures/` for the profile `cpu` with default parameters outside a run from scratch; only then `record`
    may also renew the committed notebook, its first and last cell from its contract. Raises `UserError` before a
    kernel starts, for a wrong parameter, notebook or contract; `NotebookFailedError` after, with the notebook kept
    under `build/failed/`.
    """
    notebook = Path(notebook).absolute()
    profiles.profile(profile)
    promise = contract.load(notebook)
    injected = parameters.changes(notebook, {"profile": profile, **(values or {})})
    check_kernel(notebook)
    publish = profile == "cpu" and not injected and paths.work_root() is None
    if record and not publish:
        raise UserError(
            f"{paths.relative(notebook)}: only a cpu run with default parameters is recorded: drop --record"
        )
    frame = contract.framed(promise, contract.read(notebook)["cells"]) if record else None
    root = paths.work_root() or paths.BUILD
    output = Path(output or root / "notebooks" / profile / f"{promise.name}.ipynb").absolute()
    partial = root.absolute() / "running" / profile / f"{promise.name}.ipynb"
    _check_places(output, partial, profile, publish)
    for old in (partial, *(paths.work_figures(profile) / file for file in promise.files)):
        old.unlink(missing_ok=True)
    began = time.monotonic()
    try:
        with _environment(promise, profile):
            _execute(notebook, partial, injected, promise.timeout)
        executed = nbformat.read(partial, as_version=4)
        _check_ran_to_the_end(executed)
        _check_promise(promise, profile)
    except NotebookFailedError as failure:
        _keep_failed(promise, profile, partial, time.monotonic() - began, failure)
    normalise(executed)
    if frame is not None:
        kept = [cell for cell in executed.cells[1:] if cell.get("id") != contract.LAST]
        executed.cells = [nbformat.from_dict(frame[0]), *kept, nbformat.from_dict(frame[-1])]
    text = nbformat.writes(executed) + "\n"
    files.write_text(output, text)
    partial.unlink()
    changed = _publish(promise, profile) if publish else []
    if record and notebook.read_text(encoding="utf-8") != text:
        files.write_text(notebook, text)
        changed.append(paths.relative(notebook))
    return last_runs.store(profile, Run(promise.name, time.monotonic() - began, None, publish, tuple(changed)))


def _check_places(output: Path, partial: Path, profile: str, publish: bool) -> None:
    """Raise `UserError` where what a run writes has no place: a folder for a file, no permission, a full disk."""
    if output.is_dir():
        raise UserError(f"{paths.relative(output)}: a folder: name the file that is to hold the executed notebook")
    figures = [paths.FIGURES] if publish else []
    for folder in (output.parent, partial.parent, paths.work_figures(profile), *figures):
        files.require_space(folder)


def check_kernel(notebook: Path) -> None:
    """Raise `UserError` if a notebook asks for another kernel than `python3`, which exists everywhere."""
    name = contract.read(notebook)["metadata"].get("kernelspec", {}).get("name")
    if name != KERNEL:
        raise UserError(f"{paths.relative(notebook)}: kernelspec.name is {name!r}: choose the kernel {KERNEL} and save")


def normalise(notebook: NotebookNode) -> None:
    """Remove times, paths, versions and widget states, so that an unchanged notebook runs to the same bytes."""
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]


@contextmanager
def _environment(promise: Contract, profile: str) -> Iterator[None]:
    """Set the kernel's variables for the time of a run."""
    tally = last_runs.tally(profile, promise.name).absolute()
    tally.parent.mkdir(parents=True, exist_ok=True)
    tally.unlink(missing_ok=True)
    before = dict(os.environ)
    begun = kernels.environment(promise.load) | {"REPRODUCTION_TALLY": str(tally)}
    os.environ.clear()
    os.environ.update(begun)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _execute(notebook: Path, partial: Path, injected: Mapping[str, Any], timeout: int) -> None:
    """Run papermill in the notebook's folder (as nbval does); `NotebookFailedError` with error name and message."""
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # it repeats what is raised here
    settings: dict[str, Any] = {
        "parameters": dict(injected),
        "cwd": notebook.parent,
        "progress_bar": False,
        "start_timeout": START_TIMEOUT,
        "execution_timeout": timeout,
        "iopub_timeout": 60,
        "coalesce_streams": True,
        "extra_arguments": QUIET_KERNEL,
    }
    try:
        # papermill fills in braces.
        places = [str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, partial)]
        try:
            _in_a_thread(lambda: papermill.execute_notebook(*places, **settings))
        except RuntimeError as error:
            if str(error) != kernels.UNANSWERED:
                raise
            _in_a_thread(lambda: papermill.execute_notebook(*places, **settings))
    except PapermillExecutionError as error:
        raise NotebookFailedError(f"{error.ename}: {error.evalue}") from error
    except CellTimeoutError as error:
        raise NotebookFailedError(f"TimeoutError: the cell took more than {timeout} s") from error
    except RuntimeError as error:  # the kernel did not start, or died
        raise NotebookFailedError(f"{type(error).__name__}: {error}") from error
    except OSError as error:
        if (told := of_system(error)) is None:
            raise
        raise NotebookFailedError(str(told)) from error


def _in_a_thread(run: Callable[[], Any]) -> None:
    """Run papermill in a thread: in the main one it would catch the signals that end this process, and outlive them.

    An interruption or SIGTERM ends the kernel and what it started, then goes on as it came.
    """
    with ThreadPoolExecutor(1) as thread:
        ran = thread.submit(run)
        try:
            ran.result()
        except (SystemExit, KeyboardInterrupt):
            while not ran.done():  # a kernel may be about to start
                ending.end_children()
                time.sleep(0.1)
            raise


def _check_ran_to_the_end(notebook: NotebookNode) -> None:
    """Refuse a notebook that papermill calls a success although `sys.exit()` ended it."""
    for cell in notebook.cells:
        if any(output.output_type == "error" and output.ename == "SystemExit" for output in cell.get("outputs", [])):
            raise NotebookFailedError("SystemExit: the notebook was left before its end")


def _check_promise(promise: Contract, profile: str) -> None:
    folder = paths.work_figures(profile)
    missing = [file for file in promise.files if not (folder / file).is_file() or not (folder / file).stat().st_size]
    if missing:
        raise BrokenPromiseError(f"BrokenPromise: did not write {', '.join(missing)}")


def _keep_failed(promise: Contract, profile: str, partial: Path, seconds: float, failure: Exception) -> None:
    """Keep the notebook apart, note the failure, and raise it with notebook, cell, error and seconds."""
    kept = paths.BUILD / "failed" / f"{promise.name}.ipynb"
    place = "at its end" if isinstance(failure, BrokenPromiseError) else "before its first cell"
    if partial.is_file():
        if not isinstance(failure, BrokenPromiseError):
            place = _last_cell(nbformat.read(partial, as_version=4)) or place
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(partial, kept)
    last_runs.store(profile, Run(promise.name, seconds, str(failure)))
    raise NotebookFailedError(
        f"FAILED   {promise.name}, {place}, after {seconds:.1f} s\n"
        f"         {failure}\n"
        f"         kept as {paths.relative(kept)}"
    )


def _last_cell(notebook: NotebookNode) -> str:
    """Number and first line of the cell that began last, which is the one that failed; empty if none began."""
    added = {ERROR_MARKER_TAG, "injected-parameters"}
    cells = [cell for cell in notebook.cells if not added & set(cell.metadata.get("tags", []))]
    began = [number for number, cell in enumerate(cells, 1) if cell.metadata.get("papermill", {}).get("start_time")]
    if not began:
        return ""
    return f"cell {began[-1]} `{cells[began[-1] - 1].source.strip().splitlines()[0]}`"


def _publish(promise: Contract, profile: str) -> list[str]:
    """Copy what a notebook wrote to `figures/`, all together, but only the files whose bytes differ."""
    written = {paths.FIGURES / file: (paths.work_figures(profile) / file).read_bytes() for file in promise.files}
    changed = {
        target: content for target, content in written.items() if not target.is_file() or target.read_bytes() != content
    }
    files.write_together(changed)
    return [paths.relative(target) for target in changed]


def main() -> int:
    """Run one notebook from the command line: exit 0 done, 1 failed, 2 wrong call."""
    told = "Execute a notebook, check that it wrote what it promised, and publish its figures and tables."
    parser = argparse.ArgumentParser(prog="python -m lib.running.execution", description=told)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    parser.add_argument("--output", type=Path, help="executed notebook; default under build/notebooks/")
    parser.add_argument("--record", action="store_true", help="renew the committed notebook too")
    arguments = parser.parse_args()
    name = contract.name(arguments.notebook.absolute())
    if any(parameter == "profile" for parameter, _ in arguments.p):
        raise UserError("-p profile: give the profile as --profile")
    values = parameters.parse(arguments.notebook, arguments.p)
    print(f"running  {name}", flush=True)
    try:
        outcome = run(arguments.notebook, profiles.named(arguments.profile), values, arguments.output, arguments.record)
    except NotebookFailedError as failure:
        print(failure, flush=True)
        return 1
    print(f"done     {name}  {outcome.seconds:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    command(main)
