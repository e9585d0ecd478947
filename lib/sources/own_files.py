"""The user's own benchmark files: the folder BENCHMARK_DIR, and whether a file there is the one that we report on."""

import os
from dataclasses import dataclass
from pathlib import Path

from lib import files
from lib.errors import UserError


def folder(wanted: str) -> Path:
    """Return the folder that BENCHMARK_DIR names; where it is unset, raises `UserError` saying what is `wanted`."""
    root = os.environ.get("BENCHMARK_DIR")
    if not root:
        raise UserError(f"{wanted}: your own files: set BENCHMARK_DIR to the folder that holds them")
    return Path(root)


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
        try:
            found = files.sha256(path)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}: let yourself read it") from error
        if found != self.sha256:
            raise UserError(f"{path}: not the file that was reported on: change the SHA-256 of {self.title}'s slice")
        return path
