"""What the command line takes: numbers, settings and files, read strictly; whatever is wrong is one line.

torch is imported where it is used, so that `--help` costs nothing.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import files, paths, strict_json
from lib.errors import UserError
from lib.text import json_records

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = "smollm2"  # how the command line calls the embedded backbone
MOST = 2**31 - 1  # of a whole number: what a C int holds
_LIKE_A_NUMBER = re.compile(r"[+-]?[.\d]|[+-]?(nan|inf(inity)?)$", re.IGNORECASE)


def whole(least: int, most: int = MOST) -> Callable[[str], int]:
    """Return the reader of a whole number between two others, written in digits alone; it raises `UserError`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
            above = f"of {least} or more" if most == MOST else f"from {least} to {most}"
            raise UserError(f"{strict_json.clip(text)!r} is no whole number {above}")
        return int(text)

    return read


def real(above_zero: bool = False, most: float | None = None) -> Callable[[str], float]:
    """Return the reader of a finite number, as JSON writes one: of 0 or more, or above 0; it raises `UserError`."""

    def read(text: str) -> float:
        wanted = f"a number {'above 0' if above_zero else 'of 0 or more'}{'' if most is None else f', {most} at most'}"
        try:
            number = strict_json.parse(text, "number")
        except UserError:
            number = None
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise UserError(f"{strict_json.clip(text)!r} is no number (such as 0.5 or 1e-3): give {wanted}")
        if number < 0 or (above_zero and number == 0) or (most is not None and number > most):
            raise UserError(f"{strict_json.clip(text)!r} is out of range: give {wanted}")
        return float(number)

    return read


def setting(text: str) -> tuple[str, Any]:
    """Return name and value of `name=value`: a number, true, false, null, list or object as JSON writes it, else text.

    Raises `UserError` for what is none of these, and for what begins like a number and is none (1,5, 0x1f, nan).
    """
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise UserError(f"{strict_json.clip(text)!r} is no setting: write name=value")
    if not value.strip():
        raise UserError(f"{name} has no value: write {name}=value")
    if _LIKE_A_NUMBER.match(value) or value[0] in '[{"' or value in ("true", "false", "null"):
        return name, strict_json.parse(value, name, "write 5, 0.5, 1e-3, true, [1, 2] or a plain word")
    return name, value


def settings(given: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the settings by name; raises `UserError` for a name that is given twice."""
    found: dict[str, Any] = {}
    for name, value in given:
        if name in found:
            raise UserError(f"--set {name} is given twice: give it once")
        found[name] = value
    return found


def lines(path: Path, what: str) -> list[str]:
    """Return the lines of a text file that are not blank, without the blanks around; `UserError` where there are none.

    `what` a line holds ("prompts") is for the message.
    """
    found = [line.strip() for _, line in strict_json.lines(strict_json.read_text(path))]
    if not found:
        raise UserError(f"{paths.relative(path)}: no {what}; write one a line")
    return found


def rows(path: Path, what: str, layout: str) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines or one JSON list; raises as `lib.text.json_records.read`."""
    return [record.content for record in json_records.read(path, what, layout)]


@contextmanager
def of_file(path: Path) -> Iterator[None]:
    """Name the file in every `UserError` that is raised within."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{paths.relative(path)}: {error}") from error


def out_folder(folder: Path, overwrite: bool, inputs: Sequence[str] = ()) -> Path:
    """Return a folder to write into, made and tried now, not after an hour of training.

    Raises `UserError` for a file, for one that holds anything unless `overwrite`, for one that is among the `inputs`
    that are read, and for what cannot be written.
    """
    place = paths.relative(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {place}: a file stands there: name a folder")
    if any(Path(one).is_dir() and folder.is_dir() and Path(one).samefile(folder) for one in inputs):
        raise UserError(f"--out {place}: the folder of a model that is read: choose another")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"--out {place}: not empty: choose another folder, or say --overwrite")
    files.require_space(folder)
    return folder


def device(name: str) -> str:
    """Return the name of a device that this machine has (cpu, cuda, cuda:1, mps); `UserError` for any other."""
    import torch

    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {strict_json.clip(name)}: no device: take cpu, cuda, cuda:1 or mps") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (found.index or 0) >= counts.get(found.type, 0):
        raise UserError(f"--device {name}: this machine has {counts.get(found.type, 0)} of them: take cpu or another")
    return name


def model(name: str, dtype: str, device: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a causal language model and its tokenizer: `smollm2` (the embedded one), a folder, or a hub name.

    Safetensors only, and no code that comes with a model. Raises `UserError` for one that cannot be had.
    """
    from safetensors import SafetensorError

    from lib.causal_lm import backbones

    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{name}: a file: name the folder of a model")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError(f"{name}: no config.json in it: name the folder of a model that transformers saved")
    if not folder.is_dir() and name != EMBEDDED and not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
        raise UserError(f"{name or 'the empty name'}: no such folder: name one, a model of the hub, or {EMBEDDED}")
    try:
        found, tokenizer = backbones.load_causal_lm(backbones.SMOLLM2 if name == EMBEDDED else name, dtype)
    except (SafetensorError, RuntimeError, KeyError, ImportError) as error:  # damaged weights, or a library missing
        raise UserError(f"{name}: cannot be loaded ({(str(error).splitlines() or ['?'])[0]}); fetch it anew") from error
    return found.to(device), tokenizer
