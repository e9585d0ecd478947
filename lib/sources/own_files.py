"""The user's own benchmark files: the folder BENCHMARK_DIR, what is looked for there, and what tells files apart."""

import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lib import files
from lib.errors import UserError
from lib.registry import Registry


class MissingFilesError(UserError):
    """Files of the user's are not there; one line names all of them."""


def folder(wanted: str) -> Path:
    """Return the folder that BENCHMARK_DIR names; where it is unset, raises `UserError` saying what is `wanted`."""
    root = os.environ.get("BENCHMARK_DIR")
    if not root:
        raise MissingFilesError(f"{wanted}: your own files: set BENCHMARK_DIR to the folder that holds them")
    return Path(root)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, found once as long as it does not change; `UserError` for one that is not read."""
    try:
        state = path.stat()
        return _digest(path, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}: let yourself read it") from error


@functools.lru_cache(maxsize=64)
def _digest(path: Path, *_: int) -> str:
    return files.sha256(path)


@dataclass(frozen=True)
class OwnFile:
    """A file of a benchmark, of any size and content.

    `names` are those that its releases give it, looked for in their order; `title` is what a table calls it; `training`
    names the file that methods with a split of their own to learn on take beside it, `sample` is the SHA-256 of a short
    one that committed records are of.
    """

    names: tuple[str, ...]
    title: str
    training: str = ""
    sample: str = ""

    def found(self) -> Path | None:
        """Return where the file is; None where BENCHMARK_DIR is unset or holds none of its names."""
        root = os.environ.get("BENCHMARK_DIR")
        places = [Path(root) / name for name in self.names] if root else []
        return next((place for place in places if place.is_file()), None)

    def path(self, digest_wanted: str = "") -> Path:
        """Return where the file is; raises `UserError` where it is missing, or has not the SHA-256 that is wanted."""
        place = self.found()
        if place is None:
            raise missing([self])
        if digest_wanted and (has := digest(place)) != digest_wanted:
            raise UserError(f"{place}: SHA-256 {has}, not {digest_wanted}: put back the file that is asked for")
        return place


def missing(wanted: Iterable[OwnFile]) -> MissingFilesError:
    """Return the error that names all files that are wanted and are not there, in one line."""
    named = "; ".join(f"{file.title}: {' or '.join(file.names)}" for file in wanted)
    root = os.environ.get("BENCHMARK_DIR")
    if not root:
        return MissingFilesError(f"{named}: your own files: set BENCHMARK_DIR to the folder that holds them")
    return MissingFilesError(f"{Path(root)}: no such file: BENCHMARK_DIR must hold {named}")


# The data sets of knowledge editing: in the folder that WISE's release makes, or beside one another; then a sample.
EDIT_FILES: Registry[OwnFile] = Registry(
    "file of edits",
    {
        "zsre": OwnFile(
            ("ZsRE/zsre_mend_edit.json", "zsre_mend_edit.json", "zsre_mend_eval.json", "zsre_sample.json"),
            "ZsRE",
            training="zsre_train",
            sample="39000b9dd8e5f91ad7f6672edb6f90c32f4f520bcb907c67aee4f0c8b7d4dc09",
        ),
        "zsre_train": OwnFile(("ZsRE/zsre_mend_train.json", "zsre_mend_train.json"), "ZsRE, to train on"),
        "counterfact": OwnFile(
            (
                "counterfact/counterfact-edit.json",
                "counterfact-edit.json",
                "counterfact.json",
                "counterfact_sample.json",
            ),
            "CounterFact",
            sample="f9f87e39e0ae2d55cbeba0c45302f64e571d452b6031f70d83343533a7cc661f",
        ),
        "selfcheckgpt": OwnFile(
            ("hallucination/hallucination-edit.json", "hallucination-edit.json", "selfcheckgpt_sample.json"),
            "SelfCheckGPT",
            training="selfcheckgpt_train",
            sample="445127275aed83e34bd718a4fb84531578542314443aabcf72b09d825f569f2b",
        ),
        "selfcheckgpt_train": OwnFile(
            ("hallucination/hallucination-train.json", "hallucination-train.json"), "SelfCheckGPT, to train on"
        ),
    },
)


@dataclass(frozen=True)
class Slice:
    """A file of a benchmark that we report on: its name, how a table calls it, and its SHA-256."""

    file: str
    title: str
    sha256: str

    def path(self) -> Path:
        """Return where the file is; raises `UserError` where it is missing, or another than the one reported on."""
        path = folder(self.file) / self.file
        if not path.is_file():
            raise UserError(f"{path}: no such file: BENCHMARK_DIR must hold {self.file}")
        if digest(path) != self.sha256:
            raise UserError(f"{path}: not the file that was reported on: change the SHA-256 of {self.title}'s slice")
        return path
