"""What a case is: one expensive computation, all that decides its outcome, and what it returns."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from pydantic import BaseModel

from lib import paths, profiles
from lib.records.frames import Schemas

Tensors = Mapping[str, torch.Tensor]
# Dots would blur where the name of a case ends and the name of one of its files begins.
CASE_NAME = re.compile(r"[\w-]+(/[\w-]+)+", re.ASCII)


@dataclass(frozen=True)
class Outcome:
    """What a computation returns.

    `values` and `frames` (raw outputs, stored as parquet) must be equal in every run; `weights` go to the cache, as
    tensors or as the path of a safetensors file there; `published` tensors are rounded to bf16 and stored beside the
    record; `cost` holds what was measured (seconds, tokens a second) and counts as provenance.
    """

    values: Mapping[str, Any]
    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    weights: Mapping[str, Tensors | Path] = field(default_factory=dict)
    published: Mapping[str, Tensors] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One expensive computation, named like `1_infodiffusion/paraphrase/infodiffusion/seed0`.

    `compute` is a top-level function: the stamp covers what it reaches by name. It reads the config, the seed, the
    device and the `inputs`, other cases whose records or weights it uses; nothing else may decide its outcome. `data`
    maps names to SHA-256 digests of what is read besides. `threads` is the number that torch computes with, on which
    bits depend. Raises `ValueError` for a name that is not made of letters, digits, `_`, `-` and `/`.
    """

    name: str
    profile: str
    config: BaseModel
    data: Mapping[str, str]
    seed: int
    compute: Callable[["Case"], Outcome]
    row: Literal["core", "extended"] = "core"
    inputs: Mapping[str, "Case"] = field(default_factory=dict)
    frames: Schemas = field(default_factory=dict)  # of what it leaves; none given: not checked
    threads: int = 0  # 0: as many as its record was computed with, one where there is none

    def __post_init__(self) -> None:
        if not CASE_NAME.fullmatch(self.name):
            raise ValueError(f"case name {self.name!r}: letters, digits, _ and -, with / between at least two parts")
        if not self.threads:
            object.__setattr__(self, "threads", 2 if f"{self.profile} {self.name}" in _on_two_threads() else 1)

    @property
    def path(self) -> Path:
        """JSON file of the record."""
        return paths.results(self.profile) / f"{self.name}.json"

    @property
    def device(self) -> str:
        """Where the profile computes: "cpu" or "cuda"."""
        return profiles.profile(self.profile).device


@lru_cache(maxsize=1)
def _on_two_threads() -> frozenset[str]:
    """Profile and name of the cases whose records were computed on two threads."""
    listed = paths.DATA / "results" / "two_threads"
    return frozenset(listed.read_text(encoding="utf-8").splitlines()) if listed.is_file() else frozenset()
