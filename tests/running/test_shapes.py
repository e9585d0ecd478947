"""The formulas of a plan, held to real modules: counts are exact, what a backward pass keeps within a stated factor."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from lib.diffusion.bert import BertLayer
from lib.diffusion.denoiser import DenoiserConfig
from lib.errors import UserError
from lib.running import shapes
from lib.seq2seq import blocks

WITHIN = 1.25  # the factor that activations are held to
TOKENS = (4, 64)

BUILDS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            hidden_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=688,
            vocab_size=1000,
        )
    ),
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(
            hidden_size=256,
            num_hidden_layers=2,
            num_attention_heads=8,
            num_key_value_heads=2,
            intermediate_size=896,
            vocab_size=1000,
            tie_word_embeddings=True,
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            n_embd=256,
            n_layer=3,
            n_head=4,
            vocab_size=1000,
            n_positions=128,
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    ),
}


def kept(run: Callable[[], Any], besides: nn.Module) -> int:
    """Return the bytes that the graph of `run` keeps, parameters aside, each storage once."""
    seen: dict[int, tuple[int, Tensor]] = {}

    def pack(value: Tensor) -> Tensor:
        seen[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes(), value
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        result = run()
    own = {value.untyped_storage().data_ptr() for value in besides.parameters()}
    del result
    return sum(count for place, (count, _) in seen.items() if place not in own)


def casts(model: nn.Module) -> int:
    """Return the bytes of the copies of matrices in bfloat16 that autocast keeps."""
    return sum(
        2 * value.numel()
        for module in model.modules()
        for value in module.parameters(recurse=False)
        if value.ndim == 2 and not isinstance(module, nn.Embedding)
    )


@pytest.mark.parametrize("name", BUILDS)
def test_parameters_are_exact(name: str) -> None:
    model = BUILDS[name]()
    shape = shapes.read(model.config.to_dict(), name)
    assert shape.parameters == sum(value.numel() for value in model.parameters())
    block = (model.base_model.h if name == "gpt2" else model.base_model.layers)[0]
    assert shape.block == sum(value.numel() for value in block.parameters())


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_blocks_keep_is_near_the_formula(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = BUILDS[name]().to(dtype).train()
    shape = shapes.read(model.config.to_dict(), name)
    ids = torch.randint(0, 1000, TOKENS)

    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
            return model.base_model(input_ids=ids, use_cache=False).last_hidden_state

    found = kept(run, model) - (casts(model.base_model) if dtype == torch.float32 else 0)
    said = shape.layers * ids.numel() * shape.activations(dtype.itemsize)
    assert said / WITHIN < found < said * WITHIN


def test_a_checkpointed_model_keeps_what_enters_its_blocks() -> None:
    model = BUILDS["llama"]().train()
    model.activation_checkpointing_enable()
    shape = shapes.read(model.config.to_dict(), "llama")
    ids = torch.randint(0, 1000, TOKENS)
    found = kept(lambda: model.base_model(input_ids=ids, use_cache=False).last_hidden_state, model)
    said = (shape.layers + 2) * ids.numel() * shape.states()  # and what the final norm keeps
    assert said / 1.5 < found < said * 1.5


def test_what_our_blocks_keep_is_near_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "attention", functional.scaled_dot_product_attention)  # as on a card
    layers = nn.ModuleList(blocks.Block(256, 4, 0.1) for _ in range(3)).train()
    hidden = torch.randn(*TOKENS, 256, dtype=torch.bfloat16, requires_grad=True)
    angles = blocks.rotary_angles(32, 32, 64, torch.device("cpu"))

    def run() -> Tensor:
        found = hidden
        with torch.autocast("cpu", torch.bfloat16):
            for block in layers:
                found = block(found, angles)
        return found

    found, said = kept(run, layers) - casts(layers), 3 * hidden.shape[0] * hidden.shape[1] * shapes.block_of_ours(256)
    assert said / WITHIN < found < said * WITHIN


def test_what_a_layer_of_bert_keeps_is_near_the_formula_too() -> None:
    layers = nn.ModuleList(BertLayer(DenoiserConfig(vocabulary=9, width=256, heads=4)) for _ in range(3)).train()
    for layer in layers:
        layer.layer.attention.self.dropout.p = 0.0  # a card's kernel keeps no scores, a CPU's with dropout does
    hidden = torch.randn(*TOKENS, 256, requires_grad=True)

    def run() -> Tensor:
        found = hidden
        with torch.autocast("cpu", torch.bfloat16):
            for layer in layers:
                found = layer(found, None)
        return found

    found, said = kept(run, layers) - casts(layers), 3 * hidden.shape[0] * hidden.shape[1] * shapes.block_of_ours(256)
    assert said / WITHIN < found < said * WITHIN


def test_known_names_have_the_parameters_of_their_releases() -> None:
    published = {
        "meta-llama/Llama-2-7b-hf": 6_738_415_616,
        "mistralai/Mistral-7B-v0.1": 7_241_732_096,
        "gpt2": 124_439_808,
        "gpt2-large": 774_030_080,
        "gpt2-xl": 1_557_611_200,
    }
    assert {name: shapes.KNOWN[name].parameters for name in published} == published


def test_another_architecture_and_an_unknown_name_are_one_line(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="model_type 'bert': a plan knows llama, mistral and gpt2"):
        shapes.read({"model_type": "bert"}, "config.json")
    with pytest.raises(UserError, match=r"config.json: 'hidden_size'"):
        shapes.read({"model_type": "llama", "num_hidden_layers": 2}, "config.json")
    with pytest.raises(UserError, match="its shape is not known here"):
        shapes.of_model(str(tmp_path / "nowhere"))
