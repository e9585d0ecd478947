"""A route belongs to the prompt that it was made for: in turns, at once, copied, cut, in other rows."""

import copy
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel, StaticCache

from lib.causal_lm import caches
from lib.causal_lm.edits import Edit
from lib.causal_lm.passes import continuing
from lib.editing.defer import Defer, DeferConfig
from lib.editing.grace import Grace, GraceConfig
from lib.editing.wise import Wise, WiseConfig
from lib.errors import UserError
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from lib.lemoe.memoe import Memoe, MemoeConfig
from tests.tiny_models import Words, small_gpt2
from tests.tiny_models import small_llama as tiny_llama

WORDS = Words()
BATCHES = [[Edit("a b c", "d e f g", "a b")], [Edit("k l m", "n o p n", "k l")]]
PROMPTS = ["a b c", "k l m", "o h o"]  # one of each batch, and one of none
UNRELATED = ["f g h", "o h o", "i j i", "p h h"]
GREEDY = {"do_sample": False, "pad_token_id": 0, "max_new_tokens": 6}


def small_llama() -> PreTrainedModel:
    model = tiny_llama()
    model.generation_config.eos_token_id = None  # answers do not end early
    return model


def lemoe(model: PreTrainedModel) -> Adaptor:
    config = AdaptorConfig(layer=1, router_width=8, rate=5e-2, steps=30, projection="frozen", keys="mean", gate="one")
    adaptor = Adaptor.attach(model, config.model_copy(update={"rejection": "threshold", "auxiliary_weight": 0.0}))
    for number, batch in enumerate(BATCHES):
        adaptor.edit(WORDS, batch, UNRELATED if number == 0 else ())
    return adaptor


def edited(editor: Any) -> Any:
    for batch in BATCHES:
        editor.edit(batch)
    return editor


def grace(model: PreTrainedModel) -> Grace:
    return edited(Grace(model, WORDS, GraceConfig.tuned(layer=1, radius=0.05, steps=20)))


def defer(model: PreTrainedModel) -> Defer:
    return edited(Defer(model, WORDS, DeferConfig.tuned(layer=1, steps=40, rate=0.05, gate_rate=0.1), UNRELATED))


def wise(model: PreTrainedModel) -> Wise:
    config = WiseConfig(layer=1, shard=1, steps=15, rate=1.0, ratio=0.99, memories="retrieve", shards=1)
    return edited(Wise(model, WORDS, UNRELATED, config, ()))


def memoe(model: PreTrainedModel) -> Memoe:
    return edited(Memoe(model, WORDS, MemoeConfig(layer=1, experts=3, rate=5e-2, steps=20)))


METHODS = {"lemoe": lemoe, "grace": grace, "defer": defer, "wise": wise, "memoe": memoe}
_MADE: dict[str, tuple[PreTrainedModel, Any]] = {}


@pytest.fixture(
    params=[pytest.param(name, marks=() if name in ("lemoe", "grace") else pytest.mark.thorough) for name in METHODS]
)
def made(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, Any]:
    """A model edited by one method; the tests here leave it as it is."""
    if request.param not in _MADE:
        model = small_llama()
        _MADE[request.param] = model, METHODS[request.param](model)
    return _MADE[request.param]


@pytest.fixture(scope="module")
def routed() -> tuple[PreTrainedModel, Adaptor]:
    model = small_llama()
    return model, lemoe(model)


def ids(text: str) -> torch.Tensor:
    return torch.tensor([WORDS(text)["input_ids"]])


def said(holder: Any, mask: torch.Tensor) -> Any:
    return holder.prompt(mask) if isinstance(holder, Adaptor) else holder.reading(mask)


@torch.no_grad()
def steps(model: PreTrainedModel, prompt: str, count: int, cache: Any = None) -> Iterator[torch.Tensor]:
    """The logits of a greedy conversation, one pass at a time."""
    read = model(ids(prompt), **caches.argument(model, cache), use_cache=True)
    for _ in range(count):
        yield read.logits[:, -1]
        word = read.logits[:, -1:].argmax(-1)
        read = model(word, **caches.argument(model, caches.of(read)), use_cache=True)
    yield read.logits[:, -1]


@pytest.mark.thorough
def test_the_prompts_of_these_tests_are_served_differently() -> None:
    """Else the tests below would prove nothing: what is kept is not the same for all."""
    kinds = {"lemoe": lambda held: held.last.expert, "grace": lambda held: held.served, "wise": lambda held: held.route}
    for name, found in kinds.items():
        model = small_llama()
        holder = METHODS[name](model)
        seen = []
        for prompt in PROMPTS:
            model(ids(prompt))
            seen.append(found(holder).tolist())
        assert len({str(one) for one in seen}) > 1, name


@torch.no_grad()
@pytest.mark.parametrize("make", [DynamicCache, lambda config: StaticCache(config=config, max_cache_len=16)])
def test_conversations_in_turns_are_those_alone(made: tuple[PreTrainedModel, Any], make: Callable[..., Any]) -> None:
    model, _ = made
    alone = [list(steps(model, prompt, 5, make(config=model.config))) for prompt in PROMPTS]
    turns = list(zip(*[steps(model, prompt, 5, make(config=model.config)) for prompt in PROMPTS], strict=True))
    for row, prompt in enumerate(PROMPTS):
        for one, other in zip(alone[row], turns, strict=True):
            assert torch.equal(one, other[row]), prompt


@torch.no_grad()
def test_threads_at_once_answer_as_alone(made: tuple[PreTrainedModel, Any]) -> None:
    model, _ = made
    alone = {prompt: model.generate(ids(prompt), **GREEDY).tolist() for prompt in PROMPTS}
    wrong: list[str] = []
    start = threading.Barrier(len(PROMPTS))

    def ask(prompt: str) -> None:
        start.wait()
        for number in range(6):
            found = model.generate(ids(prompt), use_cache=number % 2 == 0, **GREEDY).tolist()
            if number % 2 == 0 and found != alone[prompt]:
                wrong.append(prompt)

    threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in PROMPTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_one_thread_says_of_its_passes_is_not_heard_in_another(routed: tuple[PreTrainedModel, Adaptor]) -> None:
    model, adaptor = routed
    with torch.no_grad():
        wanted = model(ids("a b c")).logits
    inside, done, seen = threading.Event(), threading.Event(), []

    def say() -> None:
        with adaptor.off(), adaptor.prompt(torch.tensor([[0, 1, 0]]), forced=1):
            inside.set()
            done.wait()

    thread = threading.Thread(target=say)
    thread.start()
    inside.wait()
    with torch.no_grad():
        seen = [model(ids("a b c")).logits]
    done.set()
    thread.join()
    assert torch.equal(seen[0], wanted)


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("side", ["alone", "left"])
def test_generation_is_the_same_with_and_without_a_cache(
    made: tuple[PreTrainedModel, Any], beams: int, side: str
) -> None:
    model, _ = made
    asked = PROMPTS if side == "alone" else ["a b c", "l m", "o h o g"]
    rows = [WORDS(text)["input_ids"] for text in asked]
    longest = max(map(len, rows))
    batch = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    given = {"attention_mask": (batch != 0).long(), "num_beams": beams, **GREEDY}
    cached = model.generate(batch, **given)
    assert cached.tolist() == model.generate(batch, use_cache=False, **given).tolist()
    assert cached.tolist() == model.generate(batch, cache_implementation="static", **given).tolist()


@torch.no_grad()
def test_a_second_question_on_a_kept_cache_is_routed_by_its_own_tokens(routed: tuple[PreTrainedModel, Adaptor]) -> None:
    model, adaptor = routed
    for first, second in (("a b c", "k l m"), ("k l m", "a b c"), ("o h o", "a b c"), ("a b c", "o h o")):
        cache = DynamicCache()
        answer = model.generate(ids(first), **caches.argument(model, cache), **GREEDY)
        assert adaptor.last.expert.tolist() == adaptor.routes(WORDS, [first])
        whole = torch.cat([answer, ids(second)], 1)
        again = model.generate(whole, attention_mask=torch.ones_like(whole), **caches.argument(model, cache), **GREEDY)
        assert adaptor.last.expert.tolist() == adaptor.routes(WORDS, [second])
        # The same in one bare pass that says what the question is; what was cached of the first stays as it was.
        first_cache = DynamicCache()
        model.generate(ids(first), **caches.argument(model, first_cache), **GREEDY)
        rest = whole[:, first_cache.get_seq_length() :]
        with adaptor.prompt(torch.arange(rest.shape[1])[None] >= 1):
            logits = model(rest, **caches.argument(model, first_cache)).logits
        assert logits[0, -1].argmax() == again[0, whole.shape[1]]


@torch.no_grad()
def test_going_on_with_an_answer_keeps_its_route(made: tuple[PreTrainedModel, Any]) -> None:
    model, _ = made
    for prompt in PROMPTS:
        once = model.generate(ids(prompt), **{**GREEDY, "max_new_tokens": 8})
        cache = DynamicCache()
        half = model.generate(ids(prompt), **caches.argument(model, cache), **{**GREEDY, "max_new_tokens": 4})
        model(ids("o p o"))
        given = {"attention_mask": torch.ones_like(half), **GREEDY, "max_new_tokens": 4}
        assert model.generate(half, **caches.argument(model, cache), **given).tolist() == once.tolist()


@torch.no_grad()
def test_several_tokens_on_a_cache_are_refused_unless_it_is_said_what_they_are(
    made: tuple[PreTrainedModel, Any],
) -> None:
    model, holder = made
    logits = [one for one in steps(model, "a b c", 3)]
    words = torch.stack([one.argmax(-1) for one in logits[:3]], 1)

    def begun() -> Any:
        return caches.of(model(ids("a b c"), use_cache=True))

    with pytest.raises(UserError, match=r"^3 tokens follow a cache: a new question, or more of the old\?") as told:
        model(words, **caches.argument(model, begun()))
    assert "\n" not in str(told.value)
    cache = begun()
    with continuing():
        assert torch.allclose(model(words, **caches.argument(model, cache)).logits[:, -1], logits[3], atol=1e-4)
    cache = begun()
    with said(holder, torch.zeros(1, 3)):
        assert torch.allclose(model(words, **caches.argument(model, cache)).logits[:, -1], logits[3], atol=1e-4)
    with holder.off():
        other = begun()
    with pytest.raises(UserError, match="while the edits were not on"):
        model(words[:, :1], **caches.argument(model, other))


@torch.no_grad()
def test_rows_that_are_repeated_chosen_or_reordered_keep_their_route(made: tuple[PreTrainedModel, Any]) -> None:
    model, _ = made
    batch = torch.cat([ids(prompt) for prompt in PROMPTS])
    after = torch.tensor([[5], [6], [7]])
    alone = [
        model(
            after[row : row + 1], **caches.argument(model, caches.of(model(batch[row : row + 1], use_cache=True)))
        ).logits
        for row in range(3)
    ]

    def following(rows: list[int], change: Callable[[Any], object]) -> None:
        cache = caches.of(model(batch, use_cache=True))
        change(cache)
        model(batch.flip(0), use_cache=True)  # somebody else's
        found = model(after[rows], **caches.argument(model, cache)).logits
        for place, row in enumerate(rows):
            assert torch.allclose(found[place], alone[row][0], atol=1e-4)
        found = model(after[rows], **caches.argument(model, cache))  # and once more, without a change

    following([2, 0, 1], lambda cache: cache.reorder_cache(torch.tensor([2, 0, 1])))
    following([1], lambda cache: cache.batch_select_indices(torch.tensor([1])))
    following([2, 0], lambda cache: cache.batch_select_indices(torch.tensor([2, 0])))
    following([0, 0, 1, 1, 2, 2], lambda cache: cache.batch_repeat_interleave(2))
    cache = caches.of(model(batch, use_cache=True))
    copied = copy.deepcopy(cache)
    copied.batch_select_indices(torch.tensor([2, 1]))
    for kept, rows in ((copied, [2, 1]), (cache, [0, 1, 2])):
        found = model(after[rows], **caches.argument(model, kept)).logits
        assert all(torch.allclose(found[place], alone[row][0], atol=1e-4) for place, row in enumerate(rows))
    longer = caches.of(model(batch, use_cache=True))
    model(after, **caches.argument(model, longer))
    longer.crop(-1)
    found = model(after, **caches.argument(model, longer)).logits
    assert all(torch.allclose(found[row], alone[row][0], atol=1e-4) for row in range(3))
    strange = caches.of(model(batch[:1], use_cache=True))
    for layer in strange.layers:
        layer.keys = layer.keys.flip(2)
    with pytest.raises(UserError, match="other sequences than were read with it"):
        model(after[:1], **caches.argument(model, strange))


@torch.no_grad()
def test_a_static_cache_that_is_reset_begins_anew(routed: tuple[PreTrainedModel, Adaptor]) -> None:
    model, _ = routed
    cache = StaticCache(config=model.config, max_cache_len=16)
    for prompt in PROMPTS:
        wanted = [one for one in steps(model, prompt, 2)]
        found = [one for one in steps(model, prompt, 2, cache)]
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, wanted, strict=True))
        cache.reset()


@torch.no_grad()
def test_two_adaptors_on_one_model_keep_a_route_each() -> None:
    model = small_llama()
    first, second = lemoe(model), lemoe(model)
    text = ids("a b c")
    alone = model.generate(text, **GREEDY)
    cache = caches.of(model(text, use_cache=True))
    model(ids("k l m"))
    with second.prompt(forced=-1):
        model(ids("o p o"))
    assert model(ids("d"), **caches.argument(model, cache)).logits.shape == (1, 1, 20)
    assert first.last.expert.tolist() == second.last.expert.tolist() == [0]
    second.detach()
    first.detach()
    assert "generate" not in vars(model)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert alone.shape[1] > 3


@torch.no_grad()
def test_a_copy_of_an_edited_model_answers_for_itself(routed: tuple[PreTrainedModel, Adaptor]) -> None:
    model, _ = routed
    wanted = model.generate(ids("a b c"), **GREEDY)
    copied = copy.deepcopy(model)
    for value in copied.parameters():
        value.zero_()
    assert torch.equal(model.generate(ids("a b c"), **GREEDY), wanted)
    assert not torch.equal(copied.generate(ids("a b c"), **GREEDY), wanted)


def test_a_generate_of_the_users_own_is_called_and_given_back() -> None:
    model, called = small_gpt2(), []
    model.generate = lambda *given, **named: called.append(named) or type(model).generate(model, *given, **named)
    own = model.generate
    adaptor = lemoe(model)
    model.generate(ids("a b c"), **GREEDY)
    assert len(called) == 1
    with pytest.raises(UserError, match="leave prefill_chunk_size out"):
        model.generate(ids("a b c"), prefill_chunk_size=2, **GREEDY)
    adaptor.detach()
    assert model.generate is own


def renamed() -> PreTrainedModel:
    """A model as transformers has them since 5.24, whatever is installed: what it calls the cache is `cache`."""
    model = small_llama()
    trunk, own, taken = model.model, model.model.forward, caches.name(model.model)

    def body(
        input_ids: torch.Tensor, attention_mask: Any = None, cache: Any = None, use_cache: Any = None, **_: Any
    ) -> Any:
        read = own(input_ids, attention_mask=attention_mask, use_cache=use_cache, **{taken: cache})
        return SimpleNamespace(last_hidden_state=read.last_hidden_state, cache=caches.of(read))

    def whole(
        input_ids: torch.Tensor, attention_mask: Any = None, cache: Any = None, use_cache: Any = None, **_: Any
    ) -> Any:
        read = trunk(input_ids, attention_mask=attention_mask, cache=cache, use_cache=use_cache)
        return SimpleNamespace(logits=model.lm_head(read.last_hidden_state), cache=read.cache)

    trunk.forward, model.forward = body, whole  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize("method", ["lemoe", "grace"])
def test_a_route_stays_with_a_cache_by_whichever_name_models_call_it(method: str) -> None:
    models = small_llama(), renamed()
    for model in models:
        METHODS[method](model)
    assert (caches.name(models[1]), caches.name(models[1].model)) == ("cache", "cache")
    for prompt in PROMPTS:
        for ours, theirs in zip(*(steps(model, prompt, 4) for model in models), strict=True):
            assert torch.equal(ours, theirs)
    read = models[1](ids(PROMPTS[0]), use_cache=True)
    with pytest.raises(UserError, match=r"^3 tokens follow a cache"):
        models[1](ids("a b c"), cache=read.cache)


def test_a_part_without_a_cache_is_refused() -> None:
    with pytest.raises(TypeError, match="Linear takes no cache: give a causal language model"):
        caches.name(torch.nn.Linear(2, 2))
