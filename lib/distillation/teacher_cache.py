"""What the teacher says about every training row, computed once and kept on disk: log-probabilities and hidden states.

cache = TeacherCache(folder, {"teacher": ..., "data": ..., "tokenizer": ...}, lengths, Classes(vocabulary))
cache.fill([8, 15], width, passes)          # one pass of the teacher writes all parts that are missing
signals = cache.signals(rows, [8, 15])      # of a batch, as the live teacher would give them, up to fp16
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from lib import files, paths
from lib.distillation.precision import raised
from lib.errors import UserError

GIB = 2**30
HALF = 2  # bytes of a number in fp16


class Classes(NamedTuple):
    """Over what the teacher's output is kept: every token, or its `top_k` best and one class for all others."""

    vocabulary: int
    top_k: int = 0  # 0: every token

    @property
    def count(self) -> int:  # type: ignore[override]  # in place of a tuple's, which nobody calls
        """Return the number of classes."""
        return self.top_k + 1 if self.top_k else self.vocabulary

    @classmethod
    def fitting(cls, vocabulary: int, tokens: int, top_k: int, gib: float) -> "Classes":
        """Return all tokens where fp16 log-probabilities of `tokens` places fit into `gib`, else the top k and a tail.

        Raises `ValueError` for a k that leaves no token to the tail.
        """
        if tokens * vocabulary * HALF <= gib * GIB:
            return cls(vocabulary)
        if not 0 < top_k < vocabulary:
            raise ValueError(f"top_k = {top_k}: it must lie between 0 and the vocabulary's {vocabulary}")
        return cls(vocabulary, top_k)


@dataclass(frozen=True)
class Signals:
    """What a teacher says at the places of a batch that predict response tokens, row after row.

    `output` (tokens, classes): log-probabilities; `chosen` (tokens, k): the token of each class but the last, which is
    the tail, or None where class and token are one; `states`: layer to (tokens, width); `lost` (tokens,): the mass that
    fell on tokens outside the restricted vocabulary before renormalising.
    """

    output: Tensor
    chosen: Tensor | None
    lost: Tensor
    states: Mapping[int, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Signals":
        """Return the same on a device."""
        chosen = None if self.chosen is None else self.chosen.to(device)
        states = {layer: state.to(device) for layer, state in self.states.items()}
        return Signals(self.output.to(device), chosen, self.lost.to(device), states)

    def reduced(self, classes: Classes) -> "Signals":
        """Return the same with the output over `classes`."""
        if not classes.top_k:
            return self
        chosen = self.output.topk(classes.top_k, dim=-1).indices
        return Signals(over_classes(self.output, chosen), chosen, self.lost, self.states)


def over_classes(logits: Tensor, chosen: Tensor | None) -> Tensor:
    """Return log-probabilities (tokens, k + 1): of the chosen tokens (tokens, k), and of all others together, last.

    Both sides of a divergence go through it, so that reverse and symmetric ones see the tail. Without `chosen` the
    logits (tokens, vocabulary) come back as they are.
    """
    if chosen is None:
        return logits
    logs = raised(logits).log_softmax(-1)
    others = logs.scatter(-1, chosen, float("-inf"))
    empty = (others == float("-inf")).all(-1, keepdim=True)  # a tail without mass: logsumexp has no gradient there
    tail = others.masked_fill(empty, 0).logsumexp(-1, keepdim=True).masked_fill(empty, float("-inf"))
    return torch.cat([logs.gather(-1, chosen), tail], dim=-1)


class TeacherCache:
    """A folder with one part for the output and one for each layer's states, all as memory-mapped fp16.

    Tokens lie in the order of the training rows; a batch reads those of its own rows. Every part carries the
    fingerprint, appears whole or not at all, and is read only while its files have the digests that were written.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, str], lengths: Sequence[int], classes: Classes) -> None:
        """Name the cache of rows with so many response tokens each; nothing is read or written yet.

        `fingerprint` maps what the contents depend on (teacher, data, tokenizer) to digests; the lengths of the rows,
        which say whose each token is, are added to it.
        """
        self.folder, self.classes = folder, classes
        counted = hashlib.sha256(repr(list(map(int, lengths))).encode()).hexdigest()
        self.identity = {**fingerprint, "classes": f"{classes.count} of {classes.vocabulary}", "lengths": counted}
        self._ends = np.cumsum(lengths)
        self._lengths = np.asarray(lengths)
        self._checked: dict[str, int] = {}  # parts, with the width of their states
        self._damaged: set[str] = set()

    @property
    def tokens(self) -> int:
        """Return the number of response tokens of all rows."""
        return int(self._ends[-1])

    def missing(self, layers: Sequence[int]) -> list[str]:
        """Return the parts that are to be written: absent, or damaged, which one line on standard error tells.

        Raises `UserError` where one belongs to something else.
        """
        return [part for part in ("output", *map(_part, layers)) if not self._is_there(part)]

    def planned_bytes(self, layers: Sequence[int], width: int) -> int:
        """Return the bytes that writing the missing parts will take."""
        return self._bytes(self.missing(layers), width)

    def total_bytes(self, layers: Sequence[int], width: int) -> int:
        """Return the bytes of the output and the states of `layers`, written or not."""
        return self._bytes(["output", *map(_part, layers)], width)

    def fill(self, layers: Sequence[int], width: int, passes: Iterable[tuple[Sequence[int], Signals]]) -> int:
        """Write the missing parts from one pass over all rows, in any order of rows; returns the bytes written.

        `passes` gives rows and what the teacher says about them. The size is printed first. Raises `UserError` for
        numbers that fp16 cannot hold and where the disk lacks space, and `ValueError` where a row is left out.
        """
        if not self.missing(layers):
            return 0
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"), ExitStack() as stack:
            wanted = self.missing(layers)  # another process may have written some while we waited
            size = self._bytes(wanted, width)
            files.sweep([self.folder])
            files.require_space(self.folder, size)
            told = f"writing {size / 2**20:.1f} MiB ({', '.join(wanted)}) for {self.tokens} tokens"
            print(f"teacher cache: {told}", flush=True)
            drafts = {part: stack.enter_context(files.draft_folder(self.folder, part)) for part in wanted}
            seen = self._write(drafts, width, passes)
            if seen != set(range(len(self._lengths))):
                raise ValueError(f"the pass covered {len(seen)} of {len(self._lengths)} rows")
            for part, draft in drafts.items():
                manifest = {"identity": self.identity, "files": _files(draft), "width": width}
                files.write_json(draft / "manifest.json", manifest)
                draft.chmod(0o755)
                shutil.rmtree(self.folder / part, ignore_errors=True)  # a damaged one
                draft.rename(self.folder / part)
        self._checked.clear()
        self._damaged.clear()
        _opened.cache_clear()
        return size

    def signals(self, rows: Sequence[int], layers: Sequence[int] = ()) -> Signals:
        """Return what the teacher says about rows, with the states of `layers`, in float32.

        Raises `UserError` where a part was never written, is damaged, or belongs to another teacher, data or tokenizer.
        """
        self._require(layers)
        places = self._places(rows)
        output = self._arrays("output")
        chosen = torch.from_numpy(output["chosen"][places].astype(np.int64)) if self.classes.top_k else None
        return Signals(
            _float(output["values"][places]),
            chosen,
            _float(output["lost"][places]),
            {layer: _float(self._arrays(_part(layer))["values"][places]) for layer in layers},
        )

    def lost_mass(self) -> np.ndarray:
        """Return the mass outside the restricted vocabulary at every response token, (tokens,); errors as `signals`."""
        self._require(())
        return np.array(self._arrays("output")["lost"])

    def _require(self, layers: Sequence[int]) -> None:
        """Raise `UserError` unless the output and the states of `layers` are there, whole and ours; checked once."""
        if not {"output", *map(_part, layers)} <= self._checked.keys() and (absent := self.missing(layers)):
            raise UserError(f"{paths.relative(self.folder)}: no part {', '.join(absent)}: fill the cache first")

    def _bytes(self, parts: Sequence[str], width: int) -> int:
        shapes = [shape for part in parts for shape in self._shapes(part, width).values()]
        return sum(int(np.prod(shape)) * np.dtype(kind).itemsize for kind, shape in shapes)

    def _places(self, rows: Sequence[int]) -> np.ndarray:
        """Return where the tokens of rows lie, row after row."""
        return np.concatenate([np.arange(self._ends[row] - self._lengths[row], self._ends[row]) for row in rows])

    def _write(
        self, drafts: Mapping[str, Path], width: int, passes: Iterable[tuple[Sequence[int], Signals]]
    ) -> set[int]:
        arrays: dict[str, dict[str, np.memmap]] = {part: {} for part in drafts}
        for part, draft in drafts.items():
            for name, (kind, shape) in self._shapes(part, width).items():
                files.reserve(draft / f"{name}.bin", int(np.prod(shape)) * np.dtype(kind).itemsize)
                arrays[part][name] = np.memmap(draft / f"{name}.bin", kind, "r+", shape=shape)
        seen: set[int] = set()
        for rows, signals in passes:
            kept, places = signals.reduced(self.classes), self._places(rows)
            for part, named in arrays.items():
                for name, array in named.items():
                    array[places] = _value(kept, part, name, array.dtype)
            seen.update(rows)
        for named in arrays.values():
            for array in named.values():
                array.flush()
        return seen

    def _shapes(self, part: str, width: int) -> dict[str, tuple[type, tuple[int, ...]]]:
        if part != "output":
            return {"values": (np.float16, (self.tokens, width))}
        shapes: dict[str, tuple[type, tuple[int, ...]]] = {
            "values": (np.float16, (self.tokens, self.classes.count)),
            "lost": (np.float32, (self.tokens,)),
        }
        return shapes | ({"chosen": (np.int32, (self.tokens, self.classes.top_k))} if self.classes.top_k else {})

    def _is_there(self, part: str) -> bool:
        """Tell whether a part is there, whole and ours."""
        folder = self.folder / part
        if part in self._checked:
            return True
        if not folder.exists():
            return False
        try:
            told = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            identity, width = dict(told["identity"]), int(told["width"])
            shapes = self._shapes(part, width)
            sizes = {
                f"{name}.bin": int(np.prod(shape)) * np.dtype(kind).itemsize for name, (kind, shape) in shapes.items()
            }
            whole = told["files"] == _files(folder) and sizes == {name: f["bytes"] for name, f in told["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            identity, width, whole = self.identity, 0, False
        for name, digest in self.identity.items():
            if identity.get(name) != digest:
                raise UserError(
                    f"{paths.relative(folder)}: the cache of another {name}: delete the folder or name another"
                )
        if whole:
            self._checked[part] = width
        elif part not in self._damaged:
            self._damaged.add(part)
            print(f"{paths.relative(folder)}: truncated or edited: not used", file=sys.stderr)
        return whole

    def _arrays(self, part: str) -> dict[str, np.ndarray]:
        shapes = tuple((name, kind, shape) for name, (kind, shape) in self._shapes(part, self._checked[part]).items())
        return _opened(self.folder / part, shapes)


@lru_cache(maxsize=256)
def _opened(folder: Path, shapes: tuple[tuple[str, type, tuple[int, ...]], ...]) -> dict[str, np.ndarray]:
    return {name: np.memmap(folder / f"{name}.bin", kind, "r", shape=shape) for name, kind, shape in shapes}


def _part(layer: int) -> str:
    return f"state_{layer:02d}"


def _value(signals: Signals, part: str, name: str, kind: np.dtype) -> np.ndarray:
    """Return what a part keeps of a batch; raises `UserError` for numbers that its kind cannot hold."""
    found: dict[str, Any] = {"values": signals.output, "lost": signals.lost, "chosen": signals.chosen}
    value = found[name] if part == "output" else signals.states[int(part.removeprefix("state_"))]
    value = value.to(torch.from_numpy(np.empty(0, kind)).dtype)
    if value.is_floating_point() and not torch.isfinite(value).all():
        raise UserError(f"teacher cache, {part}/{name}: numbers beyond {kind}: leave the layer out")
    return value.cpu().numpy()


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return bytes and SHA-256 of what a part keeps."""
    found = {path.name: path.stat() for path in sorted(folder.glob("*.bin"))}
    return {
        name: {"bytes": state.st_size, "sha256": _sha256(folder / name, state.st_size, state.st_mtime_ns)}
        for name, state in found.items()
    }


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int) -> str:
    """Digest of a file, read once in a process while size and time of change stay."""
    del size, changed
    return files.sha256(path)


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
