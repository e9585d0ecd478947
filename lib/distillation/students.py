"""Students: small GPT-2-style and Llama-style models over a small vocabulary, with tied embeddings.

Their block type, depth and width differ from the teacher's; initialised from scratch, or with the teacher's embeddings
projected to the student's width. All choices here are ours.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lib import seeds
from lib.errors import UserError
from lib.registry import Registry
from lib.sources import hub

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, LlamaForCausalLM

    from lib.distillation.vocabularies import Vocabulary

Initialisation = Literal["scratch", "projected"]
CHECKPOINT = "gpt2"
SCALE = 0.02  # standard deviation of GPT-2's initial weights


def student(
    style: str,
    width: int,
    layers: int,
    heads: int,
    vocabulary: "Vocabulary",
    init: Initialisation = "scratch",
    teacher_embeddings: Tensor | None = None,
    seed: int = 0,
    positions: int = 128,
) -> "GPT2LMHeadModel | LlamaForCausalLM":
    """Return an untrained student in fp32 on the CPU; equal arguments give equal weights.

    "gpt2": learned positions, layer norms, MLP of 4 x width; "llama": rotary positions, root-mean-square norms, gated
    MLP of as many weights (8/3 x width, rounded to 8). No dropout. "projected" takes `teacher_embeddings` (vocabulary,
    teacher's width) through `projected`; all other weights are as from scratch under the same seed. `positions`: the
    most tokens of a prompt and its response. Raises `UserError` for an unknown style, an initialisation that lacks what
    it needs, a size below 1, or a width that the heads do not divide.
    """
    if min(width, layers, heads, positions) < 1:
        raise UserError(
            f"a student of width {width}, {layers} layers, {heads} heads, {positions} positions: 1 at least"
        )
    if width % heads:
        raise UserError(f"a student of width {width} with {heads} heads: the width must be a multiple of the heads")
    if init not in ("scratch", "projected") or (init == "projected") != (teacher_embeddings is not None):
        raise UserError(f"initialisation {init!r}: take scratch, or projected with the teacher's embeddings")
    with torch.random.fork_rng(devices=[]):  # transformers draws from torch's global generator
        torch.manual_seed(seeds.seed_of("distillation/student", seed))
        model = STYLES[style](width, layers, heads, positions, **_shared(vocabulary))
    if teacher_embeddings is not None:
        with torch.no_grad():
            model.get_input_embeddings().weight.copy_(projected(teacher_embeddings, width))
    return model.eval()


def projected(embeddings: Tensor, width: int) -> Tensor:
    """Return embeddings (tokens, wide) on their first `width` principal axes, (tokens, width), at GPT-2's scale.

    Centred and projected by the singular vectors of the centred table, then scaled as a whole to a root mean square of
    0.02, so that only directions and relative lengths are the teacher's. Each axis points so that its entry of the
    largest size is positive: the signs of a singular value decomposition are arbitrary. Raises `UserError` where there
    are fewer axes than `width`.
    """
    if width > min(embeddings.shape):
        raise UserError(
            f"embeddings {tuple(embeddings.shape)} have no {width} principal axes: take a narrower student, or scratch"
        )
    centred = embeddings.detach().double() - embeddings.detach().double().mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:width]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    found = centred @ (axes * largest.sign()).T
    return (found * (SCALE / found.square().mean().sqrt())).float()


def parameters(model: torch.nn.Module) -> int:
    """Return the number of a model's parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def gpt2(width: int, layers: int, heads: int, positions: int, **shared: Any) -> "GPT2LMHeadModel":
    """Return a model in GPT-2's style, with weights from torch's global generator."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            n_positions=positions,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            activation_function="gelu_pytorch_tanh",  # GPT-2's own, in one operation
            **shared,
        )
    )


def llama(width: int, layers: int, heads: int, positions: int, **shared: Any) -> "LlamaForCausalLM":
    """Return a model in Llama's style, with weights from torch's global generator; the heads' width must be even."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if (width // heads) % 2:
        raise UserError(f"a student of width {width} with {heads} heads: the width must be a multiple of even heads")
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=width,
            intermediate_size=8 * round(width / 3),
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=positions,
            **shared,
        )
    )


def gpt2_checkpoint(width: int, layers: int, heads: int, positions: int, **shared: Any) -> "GPT2LMHeadModel":
    """Return GPT-2 base with the blocks, positions and final norm of its checkpoint; its word vectors are fresh.

    They would belong to GPT-2's own tokens. Raises `UserError` where the checkpoint cannot be had, or is of another
    shape or shorter.
    """
    transformers = hub.import_transformers(offline=False)
    try:
        released = transformers.GPT2Model.from_pretrained(hub.place(CHECKPOINT), dtype="float32", use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{CHECKPOINT}: {reason}: keep a copy in MODEL_DIR or in the hub's cache") from error
    has = (released.config.n_embd, released.config.n_layer, released.config.n_head)
    if has != (width, layers, heads) or positions > released.config.n_positions:
        asked = f"({width}, {layers}, {heads}), {positions} positions"
        raise UserError(f"{CHECKPOINT} is {has}, {released.config.n_positions} positions, not {asked}: take its shape")
    made = gpt2(width, layers, heads, positions, **shared)
    taken = {name: value for name, value in released.state_dict().items() if not name.startswith("wte.")}
    taken["wpe.weight"] = taken["wpe.weight"][:positions]
    made.transformer.load_state_dict(taken, strict=False)
    return made


# By the names that a case carries.
STYLES: Registry[Callable[..., "GPT2LMHeadModel | LlamaForCausalLM"]] = Registry(
    "style of student",
    {
        "gpt2": gpt2,
        "llama": llama,
        "gpt2_checkpoint": gpt2_checkpoint,
    },
)


def _shared(vocabulary: "Vocabulary") -> dict[str, Any]:
    """Return the settings that both styles have."""
    return {
        "vocab_size": len(vocabulary),
        "bos_token_id": vocabulary.end,
        "eos_token_id": vocabulary.end,
        "pad_token_id": vocabulary.pad,
        "initializer_range": SCALE,
        "tie_word_embeddings": True,
    }
