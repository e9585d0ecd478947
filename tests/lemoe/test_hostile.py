"""What nobody should hand over: each call raises a typed error that names the argument, and changes nothing."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, LlamaModel

from lib.causal_lm import backbones, continuations, encoding, upper_layers
from lib.causal_lm import edits as edit_module
from lib.causal_lm.edits import Edit
from lib.causal_lm.layers import block, down_projection
from lib.errors import UserError
from lib.lemoe import routing, saved
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from lib.lemoe.conventional import Conventional, ConventionalConfig
from lib.lemoe.editor import LemoeEditor
from lib.lemoe.memoe import Memoe, MemoeConfig
from tests.tiny_models import Words, small_llama

NAN, INF = float("nan"), float("inf")
GOOD = [Edit("a b c", "d"), Edit("k l", "m")]
CONFIG = AdaptorConfig(layer=1, router_width=8, rate=1e-2, steps=2)
Call = Callable[[SimpleNamespace], Any]
Hostile = tuple[str, Call, type[Exception], str]  # what, the call, its error, what the message names


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One model with an adaptor of two experts, and one of each editor: hostile calls leave them as they are."""
    model, tokens = small_llama(), Words()
    adaptor = Adaptor.attach(model, CONFIG)
    for batch in (GOOD, [Edit("n o", "p p")]):
        adaptor.edit(tokens, batch)
    folder = tmp_path_factory.mktemp("saved")
    adaptor.save(folder)
    (folder / "file").write_text("no folder")
    editors = {
        "lemoe": LemoeEditor(small_llama(), tokens, CONFIG),
        "memoe": Memoe(small_llama(), tokens, MemoeConfig(layer=1, experts=2, steps=2)),
        "conventional": Conventional(small_llama(), tokens, ConventionalConfig(layer=1, router_width=8, steps=2)),
    }
    for editor in editors.values():
        editor.edit(GOOD)
    return SimpleNamespace(
        model=model,
        tokens=tokens,
        adaptor=adaptor,
        folder=folder,
        plain=small_llama(),
        ids=torch.ones(2, 3).long(),
        **editors,
    )


def told(world: SimpleNamespace) -> dict[str, Any]:
    with safe_open(world.folder / saved.NAME, "pt") as file:
        return json.loads(file.metadata()["adaptor"])


def rewritten(world: SimpleNamespace, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A saved adaptor whose metadata were changed and digested anew: what a digest cannot tell."""
    metadata = told(world)
    change(metadata)
    with safe_open(world.folder / saved.NAME, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata["sha256"] = saved.digest(metadata, tensors)
    folder = world.folder / "changed"
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / saved.NAME, {"adaptor": json.dumps(metadata)})
    return folder


NO_EDITS: dict[str, tuple[Any, str]] = {  # whatever is given for edits, and what the message says of it
    "a text": ("a b", " is of type str"),
    "bytes": (b"a b", " is of type bytes"),
    "one edit": (GOOD[0], " is of type Edit"),
    "None": (None, " is None"),
    "a number": (3, " is of type int"),
    "one dict": ({"prompt": "a", "target": "b"}, " is of type dict"),
    "a list of texts": ([GOOD[0], "a b"], r"\[1\] is of type str"),
    "a list with None": ([None], r"\[0\] is None"),
    "a triple": ([("a", "b", "c")], r"\[0\] is a tuple of 3"),
    "an empty pair": ([()], r"\[0\] is a tuple of 0"),
    "a pair of numbers": ([("a", 1)], r"\[0\]: target is of type int"),
    "a dict with another field": ([{"prompt": "a", "target": "b", "goal": "c"}], r"\[0\] has a field 'goal'"),
    "a dict without target": ([{"prompt": "a"}], r"\[0\] has no field 'target'"),
    "a dict with a wrong prompt": ([{"prompt": None, "target": "b"}], r"\[0\]: prompt is None"),
    "a dict with a text for rephrases": ([{"prompt": "a", "target": "b", "rephrases": "c"}], r"\[0\]: rephrases is of"),
    "a generator of numbers": ((number for number in range(3)), r"\[0\] is of type int"),
}
EDITING: dict[str, tuple[str, Callable[[SimpleNamespace, Any], Any]]] = {
    "Adaptor.edit": ("edits", lambda w, edits: w.adaptor.edit(w.tokens, edits)),
    "LemoeEditor.edit": ("batch", lambda w, edits: w.lemoe.edit(edits)),
    "Memoe.edit": ("batch", lambda w, edits: w.memoe.edit(edits)),
    "Conventional.edit": ("batch", lambda w, edits: w.conventional.edit(edits)),
    "encode_edits": ("edits", lambda w, edits: encoding.encode_edits(w.model, w.tokens, edits)),
    "in_batches": ("edits", lambda w, edits: edit_module.in_batches(edits, 1)),
}
CALLS: list[Hostile] = [
    (f"{place}, {what}", lambda w, call=call, edits=edits: call(w, edits), TypeError, argument + wrong)
    for what, (edits, wrong) in NO_EDITS.items()
    for place, (argument, call) in EDITING.items()
    if what != "a generator of numbers" or place == "Adaptor.edit"  # it can be read but once
]
CALLS += [
    (f"{place}, {what}", lambda w, call=call, edits=edits: call(w, edits), UserError, wrong)
    for what, edits, wrong in (
        ("no edits", [], "no edits|cannot fill"),
        ("a blank target", [("a", " ")], "empty target"),
        ("a blank prompt", [("", "a")], "empty prompt"),
        ("the prompt as target", [("a", "a")], "equals its prompt"),
        ("too long", [("a " * 40, "b")], "41 tokens"),
        ("a subject elsewhere", [{"prompt": "a", "target": "b", "subject": "c"}], "subject 'c' is not in"),
    )
    for place, (_, call) in EDITING.items()
    if place != "in_batches" or not edits
]
CALLS += [
    ("Edit, a number for prompt", lambda w: Edit(1, "a"), TypeError, "prompt is of type int"),
    ("Edit, None for target", lambda w: Edit("a", None), TypeError, "target is None"),
    ("Edit, a list for subject", lambda w: Edit("a", "b", ["a"]), TypeError, "subject is of type list"),
    ("Edit, a text for rephrases", lambda w: Edit("a", "b", rephrases="c d"), TypeError, "rephrases is of type str"),
    ("Edit, a number in rephrases", lambda w: Edit("a", "b", rephrases=("c", 1)), TypeError, r"rephrases\[1\] is of"),
    ("Edit, a text for locality", lambda w: Edit("a", "b", locality="c d"), TypeError, "locality is of type str"),
    ("Edit, three for locality", lambda w: Edit("a", "b", locality=("c", "d", "e")), TypeError, "locality has 3"),
    ("Edit, half a character", lambda w: Edit("a \ud800", "b"), TypeError, "prompt holds half a character"),
    (
        "in_batches, a text for the number",
        lambda w: edit_module.in_batches(GOOD, "2"),
        TypeError,
        "batches is of type str",
    ),
    ("in_batches, none", lambda w: edit_module.in_batches(GOOD, 0), UserError, "2 edits cannot fill 0 batches"),
    ("check, a text", lambda w: edit_module.check("a"), TypeError, "edit is of type str"),
]
NO_MODELS: dict[str, tuple[Any, type[Exception], str]] = {
    "None": (None, TypeError, "model is of type NoneType"),
    "a name": ("gpt2", TypeError, "model is of type str"),
    "a module": (torch.nn.Linear(2, 2), TypeError, "model is of type Linear"),
    "an encoder": (
        BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)),
        UserError,
        "BertModel: no layers",
    ),
}
MODELS: dict[str, Callable[[SimpleNamespace, Any], Any]] = {
    "Adaptor.attach": lambda w, model: Adaptor.attach(model, CONFIG),
    "Adaptor.load": lambda w, model: Adaptor.load(w.folder, model),
    "LemoeEditor": lambda w, model: LemoeEditor(model, w.tokens, CONFIG),
    "Memoe": lambda w, model: Memoe(model, w.tokens, MemoeConfig(layer=1)),
    "Conventional": lambda w, model: Conventional(model, w.tokens, ConventionalConfig(layer=1)),
    "block": lambda w, model: block(model, 0),
    "down_projection": lambda w, model: down_projection(model, 0),
}
CALLS += [
    (f"{place}, model {what}", lambda w, call=call, model=model: call(w, model), error, wrong)
    for what, (model, error, wrong) in NO_MODELS.items()
    for place, call in MODELS.items()
]
NO_TOKENIZERS: dict[str, tuple[Any, str]] = {
    "None": (None, "tokenizer is of type NoneType"),
    "a name": ("gpt2", "tokenizer is of type str"),
    "a class": (Words, "tokenizer is of type type"),
    "a model": (torch.nn.Linear(2, 2), "tokenizer is of type Linear"),
    "another's": (lambda text, **_: [1, 2], "tokenizer of type function gives no input_ids"),
}
TOKENIZERS: dict[str, Callable[[SimpleNamespace, Any], Any]] = {
    "Adaptor.edit": lambda w, tokens: w.adaptor.edit(tokens, GOOD),
    "Adaptor.routes": lambda w, tokens: w.adaptor.routes(tokens, ["a"]),
    "Adaptor.values": lambda w, tokens: w.adaptor.values(tokens, ["a"]),
    "LemoeEditor": lambda w, tokens: LemoeEditor(small_llama(), tokens, CONFIG).edit(GOOD),
    "Memoe": lambda w, tokens: Memoe(small_llama(), tokens, MemoeConfig(layer=1)).edit(GOOD),
    "Conventional": lambda w, tokens: Conventional(small_llama(), tokens, ConventionalConfig(layer=1)).edit(GOOD),
    "tokens": lambda w, tokens: encoding.tokens(tokens, "a"),
}
CALLS += [
    (f"{place}, tokenizer {what}", lambda w, call=call, tokens=tokens: call(w, tokens), TypeError, wrong)
    for what, (tokens, wrong) in NO_TOKENIZERS.items()
    for place, call in TOKENIZERS.items()
]
OTHERS = lambda text, **_: {"input_ids": [99]}  # noqa: E731
CALLS += [
    (
        f"{place}, ids beyond the model's",
        lambda w, call=call: call(w, OTHERS),
        ValueError,
        "tokenizer gives the token id 99",
    )
    for place, call in TOKENIZERS.items()
    if place != "tokens"
]
NO_TEXTS: dict[str, tuple[Any, str]] = {
    "one text": ("a b", " is of type str"),
    "None": (None, " is None"),
    "a number": (7, " is of type int"),
    "numbers": (["a", 7], r"\[1\] is of type int"),
    "a dict": ({"a": 1}, " is of type dict"),
}
TEXTS: dict[str, tuple[str, Callable[[SimpleNamespace, Any], Any]]] = {
    "Adaptor.routes": ("prompts", lambda w, texts: w.adaptor.routes(w.tokens, texts)),
    "Adaptor.values": ("prompts", lambda w, texts: w.adaptor.values(w.tokens, texts)),
    "Adaptor.edit": ("unrelated", lambda w, texts: w.adaptor.edit(w.tokens, GOOD, texts)),
    "LemoeEditor": ("unrelated", lambda w, texts: LemoeEditor(w.plain, w.tokens, CONFIG, unrelated=texts)),
    "encode_tokens": ("texts", lambda w, texts: backbones.encode_tokens(texts)),
    "word_vectors": ("words", lambda w, texts: backbones.word_vectors(texts)),
}
CALLS += [
    (f"{place}, {argument} {what}", lambda w, call=call, texts=texts: call(w, texts), TypeError, argument + wrong)
    for what, (texts, wrong) in NO_TEXTS.items()
    for place, (argument, call) in TEXTS.items()
]


def within(w: SimpleNamespace, **given: Any) -> None:
    with w.adaptor.prompt(**given):
        w.model(w.ids)


def read_with(w: SimpleNamespace, mask: Any) -> None:
    with w.lemoe.reading(mask):
        w.lemoe.model(w.ids)


CALLS += [
    ("forced, one too many", lambda w: within(w, forced=2), ValueError, "forced names expert 2, there are 2"),
    ("forced, below none", lambda w: within(w, forced=-2), ValueError, "forced names expert -2"),
    ("forced, one of several", lambda w: within(w, forced=torch.tensor([0, 5])), ValueError, "forced names expert 5"),
    ("forced, a fraction", lambda w: within(w, forced=0.5), TypeError, "forced is of type float"),
    ("forced, a truth value", lambda w: within(w, forced=True), TypeError, "forced is of type bool"),
    (
        "forced, fractions",
        lambda w: within(w, forced=torch.tensor([0.0, 1.0])),
        TypeError,
        "forced holds torch.float32",
    ),
    ("forced, a list", lambda w: within(w, forced=[0, 1]), TypeError, "forced is of type list"),
    (
        "forced, a table",
        lambda w: within(w, forced=torch.zeros(2, 1).long()),
        ValueError,
        r"forced has the shape \(2, 1\)",
    ),
    (
        "forced, three for two",
        lambda w: within(w, forced=torch.tensor([0, 1, 0])),
        UserError,
        "route of 3 prompts, asked 2",
    ),
    ("mask, a list", lambda w: within(w, mask=[[1, 1, 1]]), TypeError, "mask is no tensor"),
    ("mask, a row", lambda w: within(w, mask=torch.ones(3)), TypeError, "mask is no tensor"),
    ("mask, of another batch", lambda w: within(w, mask=torch.ones(3, 3)), UserError, "route of 3 prompts, asked 2"),
    ("reading, a list", lambda w: read_with(w, [[1]]), TypeError, "mask is no tensor"),
    ("embeddings", lambda w: w.model(inputs_embeds=torch.zeros(1, 2, 16)), UserError, "input_ids, not with embeddings"),
    ("routes, a blank", lambda w: w.adaptor.routes(w.tokens, ["a", " "]), UserError, "empty text"),
    ("values, none", lambda w: w.adaptor.values(w.tokens, []), ValueError, "prompts is empty"),
    (
        "routes before the first edit",
        lambda w: Adaptor.attach(small_llama(), CONFIG).routes(w.tokens, ["a"]),
        UserError,
        "edit first",
    ),
    (
        "values before the first edit",
        lambda w: Adaptor.attach(small_llama(), CONFIG).values(w.tokens, ["a"]),
        UserError,
        "edit first",
    ),
    ("attach, a dict", lambda w: Adaptor.attach(w.plain, {"layer": 1}), TypeError, "config is of type dict"),
    ("attach, None", lambda w: Adaptor.attach(w.plain, None), TypeError, "config is of type NoneType"),
    ("attach, another's", lambda w: Adaptor.attach(w.plain, MemoeConfig()), TypeError, "config is of type MemoeConfig"),
    ("attach, no such layer", lambda w: Adaptor.attach(w.plain, AdaptorConfig(layer=3)), UserError, "layer 3 does not"),
    (
        "attach, no head",
        lambda w: Adaptor.attach(LlamaModel(w.plain.config), CONFIG),
        UserError,
        "model LlamaModel has no head",
    ),
    (
        "LemoeEditor, a dict",
        lambda w: LemoeEditor(w.plain, w.tokens, {"layer": 1}),
        TypeError,
        "config is of type dict",
    ),
    ("LemoeEditor, no such layer", lambda w: LemoeEditor(w.plain, w.tokens), UserError, "layer 18 does not exist"),
    ("LemoeEditor, none at most", lambda w: LemoeEditor(w.plain, w.tokens, CONFIG, 0), ValueError, "most=0"),
    ("LemoeEditor, a text", lambda w: LemoeEditor(w.plain, w.tokens, CONFIG, "5"), ValueError, "most='5'"),
    ("Memoe, another's", lambda w: Memoe(w.plain, w.tokens, CONFIG), TypeError, "config is of type AdaptorConfig"),
    ("Memoe, empty", lambda w: Memoe(w.plain, w.tokens, {}), TypeError, "config is of type dict"),
    (
        "Conventional, MEMoE's",
        lambda w: Conventional(w.plain, w.tokens, MemoeConfig()),
        TypeError,
        "config is of type Mem",
    ),
    ("Conventional, no such layer", lambda w: Conventional(w.plain, w.tokens), UserError, "layer 18 does not exist"),
    ("mixture, no batch size", lambda w: w.memoe.routes([("a", "b")], 0), ValueError, "batch_size=0"),
    ("mixture, less than none", lambda w: w.memoe.routes([("a", "b")], -1), ValueError, "batch_size=-1"),
    ("mixture, no pairs", lambda w: w.memoe.routes(["ab"]), TypeError, r"asked\[0\] is of type str"),
    ("agreement, a text", lambda w: w.conventional.agreement("a"), TypeError, "edits is of type str"),
    ("agreement, none", lambda w: w.conventional.agreement([]), UserError, "no edits"),
    ("agreement, not learnt", lambda w: w.conventional.agreement([("p", "a")]), UserError, "was not learnt"),
    ("consistency, texts", lambda w: routing.consistency(w.adaptor, w.tokens, ["a", "b"]), TypeError, r"batches\[0\]"),
    ("consistency, others", lambda w: routing.consistency(w.adaptor, w.tokens, [GOOD]), UserError, "not those of"),
    ("save, None", lambda w: w.adaptor.save(None), TypeError, "folder is of type NoneType"),
    ("save, a number", lambda w: w.adaptor.save(3), TypeError, "folder is of type int"),
    ("save, onto a file", lambda w: w.adaptor.save(w.folder / "file"), UserError, "where a folder is needed"),
    (
        "save, below a file",
        lambda w: w.adaptor.save(str(w.folder / "file" / "x")),
        UserError,
        "is a file: name a folder",
    ),
    ("load, None", lambda w: Adaptor.load(None, w.plain), TypeError, "folder is of type NoneType"),
    ("load, no folder", lambda w: Adaptor.load("nowhere", w.plain), UserError, "nowhere: not a whole adaptor"),
    ("load, a file", lambda w: Adaptor.load(w.folder / "file", w.plain), UserError, "not a whole adaptor"),
    ("block, a text", lambda w: block(w.plain, "1"), TypeError, "layer is of type str"),
    ("block, a fraction", lambda w: block(w.plain, 1.0), TypeError, "layer is of type float"),
    ("block, below", lambda w: block(w.plain, -1), UserError, "layer -1 does not exist"),
    ("tokens, a number", lambda w: encoding.tokens(w.tokens, 3), TypeError, "text is of type int"),
    ("tokens, half a character", lambda w: encoding.tokens(w.tokens, "\udc00"), TypeError, "text holds half"),
    ("encode, no pairs", lambda w: encoding.encode(w.plain, w.tokens, []), UserError, "no edits"),
    ("encode, a text", lambda w: encoding.encode(w.plain, w.tokens, ["ab"]), TypeError, r"asked\[0\] is of type str"),
    (
        "encode, a triple",
        lambda w: encoding.encode(w.plain, w.tokens, [("a", "b", "c")]),
        TypeError,
        r"asked\[0\] has 3",
    ),
    (
        "encode, None in it",
        lambda w: encoding.encode(w.plain, w.tokens, [("a", None)]),
        TypeError,
        r"asked\[0\]\[1\] is No",
    ),
    ("subject_places, None", lambda w: encoding.subject_places(w.tokens, "a", None), TypeError, "subject is None"),
    (
        "subject_places, elsewhere",
        lambda w: encoding.subject_places(w.tokens, "a", "b"),
        UserError,
        "subject 'b' is not",
    ),
    ("split, none", lambda w: encoding.encode_edits(w.plain, w.tokens, GOOD).split(0), ValueError, "size=0"),
    (
        "UpperLayers, no such layer",
        lambda w: upper_layers.UpperLayers(w.plain, encoding.encode_edits(w.plain, w.tokens, GOOD), 7),
        ValueError,
        "layer=7",
    ),
    (
        "losses, no such kind",
        lambda w: upper_layers.UpperLayers(w.plain, encoding.encode_edits(w.plain, w.tokens, GOOD), 1).losses("first"),
        ValueError,
        "kind='first'",
    ),
    (
        "Prompts, shapes",
        lambda w: continuations.Prompts(w.plain, w.ids, w.ids[:1]),
        ValueError,
        r"ids \(2, 3\) and mask",
    ),
    (
        "Prompts, padded right",
        lambda w: continuations.Prompts(w.plain, w.ids, w.ids.tril()),
        ValueError,
        "padded on the left",
    ),
    ("Prompts, a row", lambda w: continuations.Prompts(w.plain, w.ids[0], w.ids[0]), ValueError, r"ids \(3,\)"),
    (
        "load_causal_lm, None",
        lambda w: backbones.load_causal_lm(None, "float32"),
        TypeError,
        "name is of type NoneType",
    ),
    ("load_causal_lm, empty", lambda w: backbones.load_causal_lm(" ", "float32"), UserError, "name is empty"),
    (
        "load_causal_lm, no folder",
        lambda w: backbones.load_causal_lm(w.folder / "no", "float32"),
        UserError,
        "cannot be loaded",
    ),
    (
        "load_causal_lm, no model in it",
        lambda w: backbones.load_causal_lm(w.folder, "float32"),
        UserError,
        "cannot be loaded",
    ),
    ("identity, a number", lambda w: backbones.identity(3), TypeError, "name is of type int"),
    ("encode_tokens, no batch", lambda w: backbones.encode_tokens(["a"], 0), ValueError, "batch_size=0"),
]
NO_METADATA: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "experts a text": (lambda told: told.update(experts="two"), "experts"),
    "experts below none": (lambda told: told.update(experts=-1), "experts"),
    "a billion experts": (lambda told: told.update(experts=10**9), "experts is 1000000000, the file has 2"),
    "experts a fraction": (lambda told: told.update(experts=2.5), "experts"),
    "no experts": (lambda told: told.pop("experts"), "experts"),
    "subjects a text": (lambda told: told.update(subjects="abc"), "subjects"),
    "subjects of texts": (lambda told: told.update(subjects=[["a"]]), "subjects"),
    "trained a number": (lambda told: told.update(trained=3), "trained"),
    "trained of none": (lambda told: told.update(trained=[None]), "trained"),
    "trained of no expert": (lambda told: told.update(trained=[[7]]), "trained names an expert beyond"),
    "trained below none": (lambda told: told.update(trained=[[-5]]), "trained"),
    "config a list": (lambda told: told.update(config=[1]), "config"),
    "config with another field": (lambda told: told["config"].update(goal=1), "goal"),
    "config with a wrong rate": (lambda told: told["config"].update(rate="fast"), "rate"),
    "config with a width": (lambda told: told["config"].update(router_width=9), "tensors"),
    "config of other experts": (lambda told: told["config"].update(expert="lora"), "tensors"),
    "model None": (lambda told: told.update(model=None), "model"),
    "another model": (lambda told: told["model"].update(width=17), "made for another model"),
    "another field": (lambda told: told.update(author="me"), "author"),
}
CALLS += [
    (f"load, {what}", lambda w, change=change: Adaptor.load(rewritten(w, change), w.plain), UserError, wrong)
    for what, (change, wrong) in NO_METADATA.items()
]
NO_NUMBERS: dict[str, list[Any]] = {
    "layer": [-1, 1.5, "x"],
    "scale": [NAN, -1.0, 9.0, INF],
    "rank": [0],
    "expert_width": [0, -3],
    "router_width": [0],
    "auxiliary_weight": [-1.0, NAN],
    "top_k": [0],
    "rate": [0.0, -1.0, INF, NAN],
    "steps": [0, -1],
    "chunk": [0],
    "false_positives": [-0.1, 1.1],
    "locality_weight": [-1.0],
    "seed": [-1],
    "rejection": ["maybe"],
    "rejection_distance": ["far"],
    "gate": ["two"],
    "way_out": ["null"],
}
CALLS += [
    (
        f"AdaptorConfig, {name}={value}",
        lambda w, name=name, value=value: AdaptorConfig(**{name: value}),
        ValidationError,
        name,
    )
    for name, values in NO_NUMBERS.items()
    for value in values
]
CALLS += [
    (f"{kind.__name__}, {name}={value}", lambda w, k=kind, n=name, v=value: k(**{n: v}), ValidationError, name)
    for kind, name, value in (
        (MemoeConfig, "layer", -1),
        (MemoeConfig, "scale", NAN),
        (MemoeConfig, "scale", 9.0),
        (MemoeConfig, "experts", 0),
        (MemoeConfig, "noise", -1.0),
        (MemoeConfig, "k", 0),
        (MemoeConfig, "seed", -1),
        (ConventionalConfig, "rate", 0.0),
        (ConventionalConfig, "expert_width", 0),
        (ConventionalConfig, "router_width", 0),
        (ConventionalConfig, "steps", 0),
        (ConventionalConfig, "chunk", 0),
    )
]


def test_there_are_enough_of_them_and_none_is_named_twice() -> None:
    assert len(CALLS) >= 300
    assert len({what for what, *_ in CALLS}) == len(CALLS)


def test_each_says_what_is_wrong_in_one_line_and_changes_nothing(world: SimpleNamespace) -> None:
    """One test for all, so that what one leaves behind is seen by the next."""

    def stands() -> list[Any]:
        with torch.no_grad():
            answers = [
                one(world.ids).logits for one in (world.model, world.plain, world.lemoe.model, world.memoe.model)
            ]
        hooks = [sum(len(part._forward_hooks) for part in one.modules()) for one in (world.model, world.plain)]
        frozen = [[value.requires_grad for value in one.parameters()] for one in (world.model, world.plain)]
        return [*answers, hooks, frozen]

    before, found = stands(), []
    for what, call, error, wrong in CALLS:
        try:
            call(world)
        except error as raised:
            if not re.search(wrong, str(raised)) or ("\n" in str(raised) and error is not ValidationError):
                found.append((what, str(raised)[:200]))
        except Exception as raised:  # what a user should never see
            found.append((what, repr(raised)[:200]))
        else:
            found.append((what, "nothing raised"))
    assert found == []
    after = stands()
    assert after[4:] == before[4:]
    assert all(torch.equal(one, other) for one, other in zip(before[:4], after[:4], strict=True))


def test_edits_are_taken_as_pairs_dicts_and_from_a_generator() -> None:
    given = (
        one for one in [("a b c", "d"), {"prompt": "k l", "target": "m", "rephrases": ["l"], "locality": ["o", "p"]}]
    )
    assert edit_module.as_edits(given) == [Edit("a b c", "d"), Edit("k l", "m", None, ("l",), ("o", "p"))]
    plain, other = (Adaptor.attach(small_llama(), CONFIG) for _ in range(2))
    assert plain.edit(Words(), GOOD) == other.edit(Words(), (pair for pair in [("a b c", "d"), ["k l", "m"]]))


def test_a_path_is_a_text_or_a_path(world: SimpleNamespace, tmp_path: Path) -> None:
    world.adaptor.save(str(tmp_path / "one"))
    world.adaptor.save(tmp_path / "two")
    assert (tmp_path / "one" / saved.NAME).read_bytes() == (tmp_path / "two" / saved.NAME).read_bytes()
    for folder in (str(tmp_path / "one"), tmp_path / "two"):
        adaptor = Adaptor.load(folder, world.plain)
        assert torch.equal(world.plain(world.ids).logits, world.model(world.ids).logits)
        adaptor.detach()
    assert isinstance(backbones.identity(str(tmp_path)), str)
    assert backbones.identity(str(tmp_path)) == backbones.identity(tmp_path)


def test_a_flipped_bit_of_a_saved_adaptor_is_seen(world: SimpleNamespace) -> None:
    whole = (world.folder / saved.NAME).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    draw = random.Random(0)
    places = [draw.randrange(header, len(whole)) for _ in range(60)] + [draw.randrange(header) for _ in range(60)]
    folder = world.folder / "flipped"
    folder.mkdir()
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << draw.randrange(8)
        (folder / saved.NAME).write_bytes(changed)
        try:
            found = saved.read(folder, world.plain)
        except UserError:
            continue
        assert place < header  # a blank or a key of the header, which is not what it tells
        own = world.adaptor.state_dict()
        assert found.config == world.adaptor.config
        assert found.trained == world.adaptor.trained
        assert all(torch.equal(found.tensors[name], value) for name, value in own.items())


def test_an_adaptor_of_before_is_read_by_its_old_names(world: SimpleNamespace) -> None:
    old = {new: name for name, new in saved.OLD_NAMES.items()}

    def older(told: dict[str, Any]) -> None:
        told["config"] = {old.get(name, name): value for name, value in told["config"].items()}

    folder = rewritten(world, older)
    with safe_open(folder / saved.NAME, "pt") as file:
        told = json.loads(file.metadata()["adaptor"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del told["sha256"]  # which they had not
    save_file(tensors, folder / saved.NAME, {"adaptor": json.dumps(told)})
    assert "way_out" in told["config"]
    assert saved.read(folder, world.plain).config == CONFIG


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_adaptors_are_taken_off_in_any_order(order: tuple[int, ...]) -> None:
    model = small_llama()
    model.get_input_embeddings().weight.requires_grad_(False)
    trained = [value.requires_grad for value in model.parameters()]
    ids = torch.ones(2, 3).long()
    weights, logits = {name: value.clone() for name, value in model.state_dict().items()}, model(ids).logits
    adaptors = []
    for layer in (1, 1, 2):
        adaptors.append(Adaptor.attach(model, CONFIG.model_copy(update={"layer": layer})))
        adaptors[-1].edit(Words(), GOOD)
    for number in order[:-1]:
        adaptors[number].detach()
        adaptors[number].detach()  # once more is nothing
        assert not any(value.requires_grad for value in model.parameters())
    adaptors[order[-1]].detach()
    assert torch.equal(model(ids).logits, logits)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert [value.requires_grad for value in model.parameters()] == trained
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
