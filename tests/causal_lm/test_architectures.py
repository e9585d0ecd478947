"""Every architecture that is edited: it learns, generates alike in every way, and is given back to the bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lib.causal_lm.edits import Edit
from lib.causal_lm.layers import activation, block, blocks, down_projection, feed_forward, final_norm, matrix
from lib.editing.fine_tuning import FineTuning, FineTuningConfig
from lib.editing.grace import Grace, GraceConfig
from lib.editing.moments import second_moments
from lib.editing.rome import Rome, RomeConfig
from lib.editing.wise import Wise, WiseConfig
from lib.errors import UserError
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from lib.lemoe.conventional import Conventional, ConventionalConfig
from lib.lemoe.memoe import Memoe, MemoeConfig
from tests.tiny_models import Letters, Words

LLAMA = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
LLAMA |= {"num_key_value_heads": 2, "max_position_embeddings": 32}
HEADS = LLAMA | {"head_dim": 8}
GPT2 = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32}
SLIDING = {"sliding_window": 32}
SHAPES: dict[str, dict[str, Any]] = {
    "gpt_neox": LLAMA,
    "opt": LLAMA | {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "bloom": {"hidden_size": 16, "n_layer": 3, "n_head": 2},
    "gemma2": HEADS | SLIDING,
    "phi": LLAMA,
    "falcon": LLAMA | {"ffn_hidden_size": 32},
    "gptj": GPT2 | {"rotary_dim": 8},
    "mpt": {"d_model": 16, "n_layers": 3, "n_heads": 2, "max_seq_len": 32, "expansion_ratio": 4},
    "llama": LLAMA,
    "gpt2": GPT2,
    "mistral": LLAMA | SLIDING,
    "qwen2": LLAMA,
    "qwen3": HEADS,
    "gemma": HEADS,
    "gemma3_text": HEADS | SLIDING,
    "phi3": LLAMA | {"pad_token_id": 0},
    "stablelm": LLAMA,
    "cohere": LLAMA | {"logit_scale": 1.0},
    "olmo": LLAMA,
    "olmo2": LLAMA,
    "starcoder2": LLAMA,
    "granite": LLAMA,
    "gpt_neo": {"hidden_size": 16, "num_layers": 3, "num_heads": 2, "attention_types": [[["global"], 3]]},
    "persimmon": LLAMA,
}
FAST = ("gpt_neox", "opt", "bloom", "phi")
ALL = [pytest.param(name, marks=() if name in FAST else pytest.mark.thorough) for name in SHAPES]
OF_EACH_KIND = [pytest.param(name, marks=() if name == "opt" else pytest.mark.thorough) for name in SHAPES]
NOT_STATIC = ("mpt", "gpt_neo", "bloom")  # their attention takes no cache of a fixed length
WORDS = Words()
BATCHES = [[Edit("a b c", "d e", "a b"), Edit("b a e", "f g", "b a")], [Edit("k l m", "n o", "k l")]]
PROMPTS = ["a b c", "k l m", "o h o p h"]
UNRELATED = ["f g h", "o h o", "i j i", "p h h"]


def made(name: str, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    spread = {"initializer_range": 0.4, "vocab_size": 30, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(name, **{**spread, **SHAPES.get(name, {}), **changes})
    model = AutoModelForCausalLM.from_config(config).eval()
    model.generation_config.eos_token_id = model.config.eos_token_id = None  # answers do not end early
    return model


def ids(text: str) -> torch.Tensor:
    return torch.tensor([WORDS(text)["input_ids"]])


def stands(model: PreTrainedModel) -> Callable[[], bool]:
    """What tells later whether a model is what it was, to the bit."""
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    trained = [value.requires_grad for value in model.parameters()]
    with torch.no_grad():
        logits = model(ids("a b c d")).logits

    def same() -> bool:
        with torch.no_grad():
            now = model(ids("a b c d")).logits
        hooked = any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
        equal = all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
        is_trained = [value.requires_grad for value in model.parameters()] == trained
        return torch.equal(now, logits) and equal and is_trained and not hooked and "generate" not in vars(model)

    return same


def lemoe(model: PreTrainedModel, **changes: Any) -> Adaptor:
    config = AdaptorConfig(layer=1, router_width=8, rate=2e-2, steps=15, projection="frozen", keys="mean", gate="one")
    config = config.model_copy(update={"rejection": "threshold", "auxiliary_weight": 0.0, **changes})
    adaptor = Adaptor.attach(model, config)
    for number, batch in enumerate(BATCHES):
        losses = adaptor.edit(WORDS, batch, UNRELATED if number == 0 else ())
        assert losses[-1] < 0.8 * losses[0]
    return adaptor


def generates_alike(model: PreTrainedModel, name: str) -> None:
    """With a cache, without, with a static one, with beams, padded on the left: what each prompt yields alone."""
    rows = [WORDS(text)["input_ids"] for text in PROMPTS]
    longest = max(map(len, rows))
    batch = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    given = {"do_sample": False, "pad_token_id": 0, "max_new_tokens": 4}
    for beams in (1, 2):
        ways = {"dynamic": {}, "none": {"use_cache": False}, "static": {"cache_implementation": "static"}}
        if name in NOT_STATIC:
            del ways["static"]
        found = {}
        for way, options in ways.items():
            options = {**given, "num_beams": beams, **options}
            found[way] = model.generate(batch, attention_mask=(batch != 0).long(), **options)[:, longest:].tolist()
        assert all(one == found["dynamic"] for one in found.values()), (beams, found)
        for row, words in enumerate(rows):
            one = torch.tensor([words])
            alone = model.generate(one, attention_mask=torch.ones_like(one), num_beams=beams, **given)
            assert alone[0, len(words) :].tolist() == found["dynamic"][row], (beams, PROMPTS[row])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.filterwarnings("ignore:.*cannot be cached")
def test_lemoe_edits_generates_and_gives_back(name: str) -> None:
    model = made(name)
    same = stands(model)
    adaptor = lemoe(model)
    assert not same()
    assert len(set(adaptor.routes(WORDS, PROMPTS))) > 1
    generates_alike(model, name)
    adaptor.detach()
    assert same()
    model = made(name).to(torch.bfloat16)
    same = stands(model)
    adaptor = lemoe(model, expert="lora", rank=16, steps=20)
    assert model.generate(ids("a b c"), max_new_tokens=3, pad_token_id=0).shape == (1, 6)
    adaptor.detach()
    assert same()


@pytest.mark.parametrize("expert", ["ffn", "lora"])
@pytest.mark.parametrize("name", ALL)
def test_unrelated_states_are_what_the_edited_part_reads(name: str, expert: str) -> None:
    """By the locality loss: also where a part takes the residual stream beside its input, or is no module."""
    model = made(name)
    config = AdaptorConfig(layer=1, router_width=8, rate=2e-2, steps=2, expert=expert, rank=4)
    adaptor, seen = Adaptor.attach(model, config.model_copy(update={"rejection": "locality_loss"})), []
    adaptor.edit(WORDS, BATCHES[0], UNRELATED)
    feed, down = feed_forward(block(model, 1)), down_projection(model, 1)
    part = down if expert == "lora" else block(model, 1).fc1 if feed is None else feed
    part.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    for text in UNRELATED:
        with torch.no_grad(), adaptor.prompt(forced=0):
            model(ids(text))
    read = torch.cat([one.flatten(0, -2) for one in seen])
    far = torch.cdist(adaptor.rejection.states, read, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    assert adaptor.rejection.states.shape == read.shape
    assert far.max() < 1e-4 * read.norm(dim=1).max()


def fine_tuning(model: PreTrainedModel) -> Any:
    return FineTuning(model, WORDS, FineTuningConfig(layer=1, steps=4, rate=1e-2))


def grace(model: PreTrainedModel) -> Any:
    return Grace(model, WORDS, GraceConfig.tuned(layer=1, radius=0.05, steps=5))


def wise(model: PreTrainedModel) -> Any:
    return Wise(model, WORDS, UNRELATED, WiseConfig(layer=1, steps=4, shard=2, ratio=0.99), ())


def memoe(model: PreTrainedModel) -> Any:
    return Memoe(model, WORDS, MemoeConfig(layer=1, experts=2, steps=4, rate=1e-2))


def conventional(model: PreTrainedModel) -> Any:
    return Conventional(model, WORDS, ConventionalConfig(layer=1, router_width=8, steps=4, rate=1e-2))


def rome(model: PreTrainedModel) -> Any:
    texts = [" ".join("abcdefghijklmnop"[(row * 7 + place * row) % 16] for place in range(12)) for row in range(60)]
    moments = second_moments(model, Letters(), texts, (1,))
    return Rome(model, Letters(), RomeConfig.rebuilt(layer=1, steps=4), moments, ("",))


METHODS = (fine_tuning, grace, wise, memoe, conventional, rome)


@pytest.mark.parametrize("name", OF_EACH_KIND)
@pytest.mark.filterwarnings("ignore:.*cannot be cached")
def test_other_methods_edit_generate_and_give_back(name: str) -> None:
    for make in METHODS:
        for dtype in (torch.float32,) if name in FAST else (torch.float32, torch.bfloat16):
            model = made(name).to(dtype)
            same = stands(model)
            editor = make(model)
            if make is rome and name == "opt":
                with pytest.raises(UserError, match="feed-forward parts are no modules, which this method needs"):
                    editor.edit(BATCHES[0])
            else:
                for batch in BATCHES:
                    editor.edit(batch)
                assert not same(), make.__name__
                if dtype is torch.float32:
                    given = {"do_sample": False, "pad_token_id": 0, "max_new_tokens": 3}
                    for text in PROMPTS[:2]:
                        cached = model.generate(ids(text), **given).tolist()
                        assert cached == model.generate(ids(text), use_cache=False, **given).tolist(), make.__name__
            editor.restore()
            assert same(), make.__name__


@pytest.mark.parametrize("name", ALL)
def test_the_parts_are_found(name: str) -> None:
    model = made(name)
    assert len(blocks(model)) == 3
    down = down_projection(model, 1)
    assert isinstance(down, nn.Linear | Conv1D)
    assert matrix(down).shape[0] == 16
    assert matrix(down).shape[1] in (32, 64)
    assert isinstance(final_norm(model), nn.Module)
    assert activation(model, 1)(torch.zeros(1)).item() == 0


MIXTURE = LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2, "num_experts": 4, "moe_intermediate_size": 16}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "mixtral": (MIXTURE, "mixture"),
    "qwen2_moe": (MIXTURE | {"shared_expert_intermediate_size": 16, "decoder_sparse_step": 1}, "mixture"),
    "qwen3_moe": (MIXTURE | {"head_dim": 8}, "mixture"),
    "olmoe": (MIXTURE, "mixture"),
    "granitemoe": (MIXTURE, "mixture"),
    "mamba": ({"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}, "state-space"),
    "mamba2": (
        {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1},
        "state-space",
    ),
    "falcon_mamba": ({"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}, "state-space"),
}


def starts(model: PreTrainedModel) -> list[Callable[[], Any]]:
    """Every way to begin to edit."""
    return [
        lambda: Adaptor.attach(model, AdaptorConfig(layer=1)),
        *[lambda make=make: make(model) for make in METHODS[:-1]],
        lambda: block(model, 1),
        lambda: down_projection(model, 1),
    ]


def is_refused(model: PreTrainedModel, wrong: str) -> None:
    before = [value.requires_grad for value in model.parameters()]
    for start in starts(model):
        with pytest.raises(UserError, match=wrong) as told:
            start()
        assert "\n" not in str(told.value)
    assert [value.requires_grad for value in model.parameters()] == before
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


@pytest.mark.parametrize("name", REFUSED)
def test_mixtures_and_state_space_models_are_refused_at_once(name: str) -> None:
    changes, wrong = REFUSED[name]
    is_refused(made(name, **changes), wrong)


def test_a_dense_layer_of_a_mixture_is_edited() -> None:
    model = made("qwen2_moe", **REFUSED["qwen2_moe"][0], mlp_only_layers=[1])
    assert down_projection(model, 1).weight.shape == (16, 32)
    with pytest.raises(UserError, match="layer 2 is a mixture of experts"):
        down_projection(model, 2)


def test_encoder_decoders_are_refused_at_once() -> None:
    from transformers import BartConfig, BartForConditionalGeneration, T5Config
    from transformers import T5ForConditionalGeneration as T5

    t5 = T5(T5Config(vocab_size=20, d_model=16, d_ff=32, d_kv=8, num_layers=2, num_heads=2, decoder_start_token_id=0))
    is_refused(t5, "encoder-decoder")
    shape = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 20}
    shape |= {name: 2 for name in ("encoder_attention_heads", "decoder_attention_heads")}
    shape |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 32}
    is_refused(BartForConditionalGeneration(BartConfig(**shape)), "encoder-decoder")


class Codes(torch.Tensor):
    """What torchao and others put in place of a weight: a class of tensors of its own."""


class OtherLinear(nn.Module):
    """What GPTQ and AWQ put in place of a linear map."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("qweight", torch.zeros(plain.weight.shape, dtype=torch.int32))


class Linear4bit(nn.Linear):
    """As bitsandbytes': a linear map whose weight is packed bytes."""


def quantised(kind: str) -> PreTrainedModel:
    model = made("llama")
    mlp = model.base_model.layers[1].mlp
    if kind == "bytes":
        packed = Linear4bit(32, 16, bias=False)
        packed.weight = nn.Parameter(torch.zeros(256, 1, dtype=torch.uint8), requires_grad=False)
        mlp.down_proj = packed
    elif kind == "eight bits":
        mlp.down_proj.weight = nn.Parameter(mlp.down_proj.weight.to(torch.int8), requires_grad=False)
    elif kind == "float8":
        mlp.down_proj.weight = nn.Parameter(mlp.down_proj.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    elif kind == "a class of tensors":
        weight = mlp.up_proj.weight.detach().as_subclass(Codes)
        del mlp.up_proj.weight
        mlp.up_proj.weight = nn.Parameter(weight, requires_grad=False)
        assert type(mlp.up_proj.weight) is not nn.Parameter
    elif kind == "another module":
        mlp.down_proj = OtherLinear(mlp.down_proj)
    else:
        torch.ao.quantization.quantize_dynamic(mlp, {nn.Linear}, inplace=True)
    return model


@pytest.mark.parametrize("kind", ["bytes", "eight bits", "float8", "a class of tensors", "another module", "torch"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantised_layers_are_refused_at_once(kind: str) -> None:
    is_refused(quantised(kind), "layer 1 is quantised")


@pytest.mark.parametrize("target", ["down_proj", "gate_proj"])
def test_layers_that_peft_has_wrapped_are_refused_at_once(target: str) -> None:
    from peft import LoraConfig, get_peft_model, inject_adapter_in_model

    settings = LoraConfig(target_modules=[target], r=2)
    is_refused(inject_adapter_in_model(settings, made("llama")), "wrapped by peft")
    wrapped = get_peft_model(made("llama"), settings)
    is_refused(wrapped, "wrapped by peft")
    assert block(wrapped.merge_and_unload(), 1) is not None
    attention = inject_adapter_in_model(LoraConfig(target_modules=["q_proj"], r=2), made("llama"))
    assert block(attention, 1) is not None  # another part's adapter stands in nobody's way


def test_an_offloaded_layer_is_refused_at_once() -> None:
    model = made("llama")
    model.base_model.layers[1].to("meta")
    is_refused(model, "layer 1 is offloaded")
    assert block(model, 0) is not None
    model = made("llama")
    model.base_model.layers[1].mlp.down_proj._hf_hook = type("Hook", (), {"offload": True})()
    is_refused(model, "layer 1 is offloaded")
