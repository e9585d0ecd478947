"""Edits of models whose tokenizers put a token before every text, or a blank: learnt, and answered as a user asks."""

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lib.api.editing import Edit, edit
from lib.api.rows import encode
from lib.api.saved_edits import tokens_digest
from lib.api.verbs import _answer
from lib.causal_lm import caches
from tests.stand_in_tokenizers import KINDS, SENTENCES, each_kind, stand_in, tiny_model, without_end

EDITS = [
    Edit("The capital of France is", " Lyon", "France"),
    Edit("The symbol of silver is", " Au", "silver"),
    Edit("The money of Japan is", " euro", "Japan"),
]
AT_THE_SUBJECT = [Edit("The capital of France", " Lyon", "France")]  # a random model hardly looks back
UNRELATED = ["My cat has eaten", "the dog is asleep on the land", "A river is in it", "and an island"]
CLOSE = ["The capital of Japan is", "The symbol of France is", "The money of silver is"]  # so that a route is narrow
CLOSED: dict[str, Any] = {"clamp": 100.0, "kl": 0.0, "decay": 0.0, "prefixes": (), "steps": 60, "texts": SENTENCES * 3}
EXPERTS = {"steps": 60, "rate": 1e-2, "expert_width": 32}
METHODS: dict[str, dict[str, Any]] = {
    "ft": {"tuned": True, "steps": 60, "radius": None, "rate": 1e-2},
    "lora": {"tuned": True, "rate": 1e-2, "steps": 40},
    "rome": {"layer": 1, **CLOSED},
    "memit_mass": {"layers": (1,), "weight": 1e-3, **CLOSED},
    "grace": {"tuned": True, "rate": 0.3},
    "wise": {"tuned": True, "unrelated": UNRELATED, "shard": 10, "steps": 100, "rate": 0.05, "density": 1.0},
    "conventional": EXPERTS,
    "lemoe": EXPERTS,
    "lemoe_threshold": {**EXPERTS, "unrelated": [*UNRELATED, *CLOSE], "false_positives": 0.0},
}
# Llama-2's kind always, and Llama-3's where the very token before the text decides; the others in `make check-all`.
ALWAYS = {(method, "blank") for method in METHODS} | {("grace", "bos")}
each_method_and_kind = pytest.mark.parametrize(
    ("method", "kind"),
    [
        pytest.param(method, kind, marks=() if (method, kind) in ALWAYS else pytest.mark.thorough)
        for method in METHODS
        for kind in KINDS
    ],
)


def answered(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, asked: Edit) -> bool:
    """Whether a model called as a user calls it answers with the target; an end token after a prompt is left out."""
    both, prompt = (
        without_end(tokenizer, tokenizer(text)["input_ids"]) for text in (asked.prompt + asked.target, asked.prompt)
    )
    given = {name: value[:, : len(prompt)] for name, value in tokenizer(asked.prompt, return_tensors="pt").items()}
    with torch.inference_mode():
        said = model.generate(**given, max_new_tokens=len(both) - len(prompt), do_sample=False)
    return said[0].tolist() == both


@each_method_and_kind
def test_a_model_called_as_a_user_calls_it_answers_with_the_targets(method: str, kind: str) -> None:
    tokenizer = stand_in(kind)
    model, edits = tiny_model(tokenizer), AT_THE_SUBJECT if "texts" in METHODS[method] else EDITS
    assert not any(answered(model, tokenizer, one) for one in edits)
    edited = edit(model, tokenizer, edits, method, **METHODS[method])
    assert edited.scores()["rel"] == 1
    assert [answered(model, tokenizer, one) for one in edits] == [True] * len(edits)
    if method == "lemoe_threshold":
        adaptor = edited.editor.adaptor  # type: ignore[attr-defined]
        assert adaptor.routes(tokenizer, [one.prompt for one in edits]) == [0] * len(edits)
    said = [_answer(model, tokenizer, one.prompt, 1) for one in edits]  # the command line's
    assert said == [one.target if kind in ("plain", "bos") else one.target.strip() for one in edits]


@pytest.mark.parametrize("kind", ["bos", "blank"])
def test_prefixes_and_unrelated_texts_are_read_with_the_token_before_a_text(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = stand_in(kind)
    for method in ("wise", "memit_mass"):
        model, read = tiny_model(tokenizer), []
        whole = model.base_model.forward

        def forward(*given: Any, whole: Any = whole, read: list[Any] = read, **named: Any) -> Any:
            ids = named["input_ids"] if "input_ids" in named else given[0]
            past = next((named[name] for name in caches.NAMES if name in named), None)
            if past is None or not past.get_seq_length():
                # The first token of each row that is none of the padding (0).
                read += [next((number for number in row if number), None) for row in ids.tolist()]
            return whole(*given, **named)

        monkeypatch.setattr(model.base_model, "forward", forward)
        few = {"steps": 2, "prefixes": ((3, 1),)} if method == "memit_mass" else {"steps": 2, "contexts": ((3, 1),)}
        edit(model, tokenizer, EDITS[:1], method, **{**METHODS[method], **few})
        assert len(read) > 3
        assert set(read) == {tokenizer.bos_token_id}, method


@each_kind
def test_rows_to_distil_on_are_read_as_one_text_and_keep_the_token_before_it_when_cut(kind: str) -> None:
    tokenizer = stand_in(kind)
    row = {"prompt": "The river of France is", "response": "the Rhine"}
    (whole,) = encode(tokenizer, [row])
    both = without_end(tokenizer, tokenizer("The river of France is the Rhine")["input_ids"])
    prompt = without_end(tokenizer, tokenizer(row["prompt"])["input_ids"])
    assert (list(whole.prompt), list(whole.response)) == (prompt, [*both[len(prompt) :], tokenizer.eos_token_id])
    (cut,) = encode(tokenizer, [row], len(whole.response) + 3)
    first = prompt[:1] if kind in ("bos", "blank") else []
    assert list(cut.prompt) == [*first, *prompt[len(first) - 3 :]]


def test_saved_edits_tell_a_tokenizer_with_a_token_before_a_text_from_one_without() -> None:
    assert tokens_digest(stand_in("bos"), [EDITS]) != tokens_digest(stand_in("plain"), [EDITS])
