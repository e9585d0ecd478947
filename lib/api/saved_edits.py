"""A folder of saved edits: tensors, a JSON configuration with checksums, and a card. No pickle.

edits.safetensors   what the method stores
config.json         method, settings, edits, the model it was made for, and checksums
README.md           the card: base model, method, scores, limits
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from lib import files, paths, strict_json
from lib.causal_lm.edits import Edit
from lib.causal_lm.encoding import pair_tokens
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TENSORS, CONFIG, CARD = "edits.safetensors", "config.json", "README.md"
WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # whole numbers of as many bytes


class Content(BaseModel):
    """What config.json holds, each field of its type and no other."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[1] = 1
    method: str
    settings: dict[str, Any]
    model: dict[str, Any]
    tokenizer: str  # digest of the edits' tokens
    batches: list[list[dict[str, Any]]]  # the edits
    answers: list[tuple[str, str, list[int]]]  # of the unedited model to the locality questions
    texts: list[str]
    unrelated: list[str]
    state: dict[str, Any]
    packed: dict[str, list[int]] = {}  # shapes of the tensors that are stored without their zeros
    tensors: str = ""  # SHA-256 of the file
    sha256: str = ""  # of all fields but this


def identity(model: "PreTrainedModel") -> dict[str, Any]:
    """Say which model edits were made for: architecture, precision, count and digest of its weights.

    The digest is over names, types, shapes, some values and the sum of all bits of each weight, which a device computes
    in a moment and every device alike.
    """
    found, number = hashlib.sha256(), 0
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            bits = value.detach().contiguous().flatten().view(WHOLE[value.element_size()])
            some = bits[:: max(1, len(bits) // 64)].cpu().numpy().tobytes()
            told = [name, str(value.dtype), list(value.shape), int(bits.sum(dtype=torch.int64))]
            found.update(json.dumps(told).encode() + some)
            number += value.numel()
    return {
        "name": base_name(model),
        "architecture": type(model).__name__,
        "precision": precision(model),
        "parameters": number,
        "sha256": found.hexdigest(),
    }


def precision(model: "PreTrainedModel") -> str:
    """Return the types of a model's weights, as "float32"."""
    return "+".join(sorted({str(value.dtype).removeprefix("torch.") for value in model.parameters()}))


def base_name(model: "PreTrainedModel") -> str:
    """Return the name that a model was loaded by, of a folder the last part; its class's where it has none."""
    name = str(getattr(model.config, "_name_or_path", "") or "")
    return Path(name).name if Path(name).is_dir() or Path(name).is_absolute() else name or type(model).__name__


def tokens_digest(tokenizer: "PreTrainedTokenizerBase", batches: list[list[Edit]]) -> str:
    """Return the SHA-256 of the tokens of all prompts and targets: another tokenizer gives another."""
    asked = [pair_tokens(tokenizer, edit.prompt, edit.target) for batch in batches for edit in batch]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def write(folder: Path, tensors: dict[str, Tensor], content: Content, card: str, overwrite: bool = False) -> None:
    """Write the three files together or not at all; `UserError` where the folder cannot be written to.

    So for a folder without saved edits in which the others' names are taken, unless `overwrite`: they are a model's, or
    somebody's own.
    """
    if not overwrite:
        files.refuse_others(folder, (CONFIG, CARD), TENSORS, "saved edits")
    # Copies: a file holds no two tensors of one memory.
    held = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    held, shapes = _packed(held)
    whole = safetensors.torch.save(held, {"format": "pt"})
    digest = hashlib.sha256(whole).hexdigest()
    content = content.model_copy(update={"packed": shapes, "tensors": digest, "sha256": ""})
    told = content.model_dump(mode="json")
    told["sha256"] = _digest(told)
    written = {TENSORS: whole, CONFIG: files.json_text(told).encode(), CARD: card.encode()}
    files.write_together({folder / name: data for name, data in written.items()})


def read(folder: Path) -> tuple[Content, dict[str, Tensor]]:
    """Read a folder; `UserError` in one line for what is missing, damaged or not what `write` writes."""
    place = paths.relative(folder)
    if not folder.is_dir():
        raise UserError(f"{place}: no folder of saved edits: check its path")
    found = strict_json.parse(strict_json.read_text(folder / CONFIG), paths.relative(folder / CONFIG), "save it again")
    try:
        if not isinstance(found, dict):
            raise ValueError(f"{strict_json.kind(found)}, no object")
        # JSON has no tuples, which `strict` would ask for.
        content = Content.model_validate_json(json.dumps(found))
        if content.sha256 != _digest(found):
            raise ValueError("its checksum is another: something has changed")
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UserError(f"{paths.relative(folder / CONFIG)}: {name}: {first['msg']}; save it again") from error
    except ValueError as error:
        raise UserError(f"{paths.relative(folder / CONFIG)}: {error}; save it again") from error
    try:
        whole = (folder / TENSORS).read_bytes()
        if hashlib.sha256(whole).hexdigest() != content.tensors:
            raise ValueError("its checksum is another: truncated, or of another save")
        # Copied: a file's memory is aligned otherwise, which may change bits.
        held = {name: value.clone() for name, value in safetensors.torch.load(whole).items()}
        return content, _unpacked(held, content.packed)
    except (OSError, ValueError, SafetensorError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{paths.relative(folder / TENSORS)}: {told}; save it again") from error


def _packed(held: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """Return tensors, those that are mostly zeros as the places (bits) and the values of the others; and their shapes.

    To the bit: a zero is one whose bits are all zero. Of truth values the places are all.
    """
    found: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, value in held.items():
        truth = value.dtype == torch.bool
        bits = value if truth else value.view(WHOLE[value.element_size()]) != 0
        if value.ndim == 0 or not (truth or int(bits.sum()) * 2 <= value.numel()):
            found[name] = value
            continue
        shapes[name] = list(value.shape)
        found[f"{name}.places"] = torch.from_numpy(np.packbits(bits.numpy()))
        if not truth:
            found[f"{name}.values"] = value[bits]
    return found, shapes


def _unpacked(held: dict[str, Tensor], shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Return what `_packed` took; `ValueError` for what is not whole."""
    found = dict(held)
    try:
        for name, shape in shapes.items():
            bits = np.unpackbits(found.pop(f"{name}.places").numpy(), count=int(np.prod(shape)))
            places, values = torch.from_numpy(bits.astype(bool)).view(shape), found.pop(f"{name}.values", None)
            found[name] = places if values is None else torch.zeros(shape, dtype=values.dtype)
            if values is not None:
                found[name][places] = values
    except (KeyError, RuntimeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"not whole ({name}: {type(error).__name__})") from error
    return found


def check_model(folder: Path, content: Content, model: "PreTrainedModel") -> None:
    """Raise `UserError` unless a model is the unedited one that edits were made for."""
    now = identity(model)
    for name, what in (("architecture", "architecture"), ("precision", "precision"), ("parameters", "size")):
        if now[name] != content.model.get(name):
            made = content.model.get(name)
            raise UserError(f"{paths.relative(folder)}: made for a model of another {what} ({made}, not {now[name]})")
    if now["sha256"] != content.model.get("sha256"):
        made = content.model.get("name")
        raise UserError(f"{paths.relative(folder)}: made for other weights ({made}): load that model, unedited")


def as_dict(edit: Edit) -> dict[str, Any]:
    """Return an edit as JSON holds it, without what it does not say."""
    told: dict[str, Any] = {"prompt": edit.prompt, "target": edit.target}
    for name in ("subject", "answer", "relation", "identity"):
        if getattr(edit, name):
            told[name] = getattr(edit, name)
    if edit.rephrases:
        told["rephrases"] = list(edit.rephrases)
    if edit.locality:
        told["locality"] = list(edit.locality)
    return told


def card(title: str, name: str, about: str, limits: str, content: Content, scores: dict[str, float | None]) -> str:
    """Return README.md: base model, method, number of edits, scores measured on them, limits, and how to load it."""
    edits = [edit for batch in content.batches for edit in batch]
    said = {"rel": "the edits' targets (Rel)", "gen": "their rephrases (Gen)", "loc": "unrelated answers kept (Loc)"}
    rows = [f"| {said[key]} | {'not asked' if value is None else f'{value:.3f}'} |" for key, value in scores.items()]
    return "\n".join(
        [
            "---",
            f"base_model: {json.dumps(content.model['name'])}",
            "tags:",
            "- model-editing",
            f"- {name}",
            "---",
            f"# {len(edits)} edits of {content.model['name']} by {title}",
            "",
            about,
            "",
            f"- Base model: {content.model['name']} ({content.model['architecture']}, {content.model['precision']}, "
            f"{content.model['parameters']:,} parameters), unedited",
            f"- Edits: {len(edits)} in {len(content.batches)} batches; all of them stand in `{CONFIG}`",
            f"- Limits: {limits}. The scores are on these very edits and say nothing about other knowledge",
            "",
            "| share of tokens that are the most likely ones | |",
            "|---|---|",
            *rows,
            "",
            "```python",
            "from lib.api import load",
            "",
            "edited = load(folder, model, tokenizer)",
            "```",
            "",
        ]
    )


def _digest(told: dict[str, Any]) -> str:
    left = {name: value for name, value in told.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(left, sort_keys=True).encode()).hexdigest()
