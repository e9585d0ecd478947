"""How a record lies on disk: one JSON file, and beside it the files whose digests it holds.

Files beside the JSON carry their digest in their name, so new ones never overwrite those of the old record: replacing
the JSON is the one step that makes a record new, and a crash before it leaves the old record whole.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
import torch

from lib import files
from lib.errors import UserError
from lib.paths import relative

OUTSIDE_CONTENT = ("provenance", "checksums")


class DamagedError(UserError):
    """A stored file is truncated, edited or missing; `reason` names it, the message adds the remedy."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: run `make reproduce`")
        self.reason = reason


@dataclass(frozen=True)
class Frames(Mapping[str, pd.DataFrame]):
    """Tables of a record by name; each access reads the file, checks its digest and returns a new data frame."""

    path: Path
    entries: dict[str, dict[str, Any]]

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a table; `KeyError` for an unknown name, `DamagedError` for a damaged file."""
        return pd.read_parquet(io.BytesIO(read_attachment(self.path, self.entries[name])))

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


@dataclass(frozen=True)
class Record:
    """The stored result of a case; `frames` are read from disk, and checked, when they are asked for."""

    path: Path
    case: str
    profile: str
    config: dict[str, Any]
    seed: int
    threads: int
    stamp: dict[str, Any]
    values: dict[str, Any]
    frames: Frames
    weight_digests: dict[str, str]
    published: dict[str, dict[str, Any]]
    provenance: dict[str, Any]
    content_digest: str
    outputs_digest: str  # of values, frames and weights alone, whatever computed them
    historic: dict[str, Any] | None = None

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """Return the bf16 weights published beside the record; `KeyError` if none, `DamagedError` if damaged."""
        return safetensors.torch.load(read_attachment(self.path, self.published[name]))


def record(path: Path, stored: dict[str, Any]) -> Record:
    """Return checked JSON, as `read` gives it, as a record."""
    names = ("case", "profile", "config", "seed", "threads", "stamp", "values", "published", "provenance")
    return Record(
        path=path,
        frames=Frames(path, stored["frames"]),
        weight_digests=stored["weights"],
        content_digest=stored["checksums"]["content"],
        outputs_digest=_outputs_checksum(stored),
        historic=stored.get("historic"),
        **{name: stored[name] for name in names},
    )


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Return a data frame as zstd parquet, the same bytes for the same rows; `ValueError` if it has its own index."""
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError("an index is not stored: call reset_index() on the frame")
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", compression="zstd", index=False)
    return buffer.getvalue()


def safetensors_bytes(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype | None = None) -> bytes:
    """Return tensors as safetensors, floating ones rounded to `dtype` if given; tied tensors are written twice."""
    plain = {}
    for name, tensor in tensors.items():
        rounded = tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
        plain[name] = rounded.detach().cpu().contiguous().clone()
    return safetensors.torch.save(plain)


def attach(path: Path, name: str, suffix: str, data: bytes) -> dict[str, Any]:
    """Write `data` beside the record at `path` and return the entry that the record keeps of it."""
    digest = hashlib.sha256(data).hexdigest()
    target = path.with_name(f"{path.stem}.{name}.{digest[:12]}{suffix}")
    if not target.is_file() or files.sha256(target) != digest:
        files.write_atomically(target, lambda temporary: temporary.write_bytes(data))
    return {"file": target.name, "bytes": len(data), "sha256": digest}


def read_attachment(path: Path, entry: dict[str, Any]) -> bytes:
    """Bytes of a file beside the record at `path`; `DamagedError` if they are not those that were stored."""
    target = path.with_name(entry["file"])
    if not target.is_file():
        raise DamagedError(f"{relative(target)}: missing, though {path.name} names it")
    data = target.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise DamagedError(f"{relative(target)}: truncated or edited ({len(data)} bytes, {entry['bytes']} stored)")
    return data


def outputs_digest(path: Path) -> str:
    """Return the digest of what a record holds, whatever made it; "missing" where there is none."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return _outputs_checksum(stored)
    except (OSError, ValueError, KeyError, TypeError):
        return "missing"


def _outputs_checksum(stored: Mapping[str, Any]) -> str:
    return _checksum({name: stored[name] for name in ("values", "frames", "weights", "published")})


def write(path: Path, content: dict[str, Any], provenance: dict[str, Any]) -> None:
    """Write a record's JSON with its two checksums; `ValueError` for NaN, `TypeError` for what JSON cannot hold."""
    checksums = {"content": _checksum(content), "all": _checksum({**content, "provenance": provenance})}
    files.write_json(path, {**content, "provenance": provenance, "checksums": checksums})


def read(path: Path) -> dict[str, Any]:
    """Return a record's JSON, checked together with every file it names; `DamagedError` if any is not as stored."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        content = {name: value for name, value in stored.items() if name not in OUTSIDE_CONTENT}
        checksums = {"content": _checksum(content), "all": _checksum({**content, "provenance": stored["provenance"]})}
        intact = stored["checksums"] == checksums
        attachments = [*stored["frames"].values(), *stored["published"].values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{relative(path)}: truncated or not a record") from error
    if not intact:
        raise DamagedError(f"{relative(path)}: edited since it was stored")
    for entry in attachments:
        read_attachment(path, entry)
    return stored


def sweep(path: Path, stored: dict[str, Any]) -> None:
    """Remove files beside the record at `path` that belong to an older one, and leftovers of killed writes."""
    named = {entry["file"] for entry in [*stored["frames"].values(), *stored["published"].values()]}
    for candidate in path.parent.glob(f"{path.stem}.*.*"):
        if candidate.name not in named:
            candidate.unlink(missing_ok=True)
    for leftover in path.parent.glob(f"{files.PARTIAL}*"):
        files.remove_left(leftover)


def _checksum(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
