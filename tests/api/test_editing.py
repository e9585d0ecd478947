"""Every method that edits, from one call: it edits, adds, saves, loads to the bit, and gives the model back."""

import copy
import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from transformers import PreTrainedModel

from lib import files, paths
from lib.api import saved_edits
from lib.api.editing import METHODS, Edit, Edited, edit, load, read_edits
from lib.api.editing_bench import Sizes
from lib.causal_lm import backbones
from lib.editing.grace import GraceConfig
from lib.errors import DivergedError, UserError
from lib.series.lemoe import rows
from tests.tiny_models import Letters, gpt2, llama

FIRST = [
    Edit("the sky is", "red", "sky", ("a sky is",), ("a dog is", "big")),
    Edit("the sea is", "dry", "sea", ("any sea is",)),
]
MORE = [Edit("the cat is", "ox", "cat", ("each cat is",), ("the ant is", "wee"))]
TUNED = ("ft", "lora", "rome", "memit", "memit_mass", "mend", "defer", "grace", "wise", "wise_retrieve")
PLAIN = ["the old hat is on the bed", "a dog ran to the sea", "my cat sat on it", "we eat at six", "it is far away"]
FEW = {"texts": PLAIN * 5}, {"unrelated": PLAIN}, {"tuning": [FIRST[0], MORE[0]]}
# So that each takes a moment.
FAST: dict[str, dict[str, Any]] = {
    "alphaedit": {"threshold": 10.0, "steps": 3, "prefixes": (), **FEW[0]},
    "rome": {"steps": 3, "prefixes": ((3, 2),), **FEW[0]},
    "memit": {"steps": 3, "weight": 1.0, "prefixes": (), **FEW[0]},
    "memit_mass": {"steps": 3, "weight": 1.0, "prefixes": (), **FEW[0]},
    "mend": {"tuned": True, "steps": 1, "accumulated": 1, "edit_rate": 0.1, **FEW[2]},
    "conventional": {"steps": 3, "rate": 0.05},
    "memoe": {"steps": 3, "rate": 0.05},
    "lemoe": {"steps": 3, "rate": 0.05},
    "lemoe_threshold": {"steps": 3, "rate": 0.05, "false_positives": 1.0, **FEW[1]},
    "lora": {"steps": 3, "rate": 0.05},
    "wise": {"steps": 10, "shard": 2, "threshold": 0.0, **FEW[1]},  # a full shard, then an open one
    "wise_retrieve": {"steps": 10, "shard": 1, "ratio": 0.01, **FEW[1]},
    "defer": {"steps": 20, **FEW[1]},
    "grace": {"steps": 5},
    "ewc": {"steps": 5},
    "ft": {"steps": 5},
    "ft_last": {"steps": 5},
}
both = pytest.mark.parametrize("make", [llama, pytest.param(gpt2, marks=pytest.mark.thorough)])
# One of each kind of state always; the others in `make check-all`.
QUICK = ("ft", "memit", "grace", "wise", "lora", "memoe", "lemoe")
each = pytest.mark.parametrize(
    "method", [name if name in QUICK else pytest.param(name, marks=pytest.mark.thorough) for name in METHODS]
)


def logits(model: PreTrainedModel) -> torch.Tensor:
    asked = [Letters()(text)["input_ids"] for text in ("the sky is", "the sea is", "the cat is", "my old hat")]
    with torch.inference_mode():
        return torch.cat([model(input_ids=torch.tensor([ids])).logits[0] for ids in asked])


def begun(make: Any, method: str, **settings: Any) -> Edited:
    return edit(make(), Letters(), FIRST, method, **{**FAST.get(method, {}), **settings})


def test_every_row_that_edits_can_be_called() -> None:
    assert list(METHODS) == [name for name in rows.METHODS if name != "no_edit"]
    assert [one.title for one in METHODS.values()] == [rows.METHODS[name].title for name in METHODS]


def test_released_settings_are_the_default_and_tuned_ones_stand_beside() -> None:
    """What is published comes as its authors' class has it, but for what a model's sizes set."""
    sized = {"layer", "layers", "steps", "memories", "modules", "loss", "packed"}  # the last changes rounding alone
    for name, method in METHODS.items():
        if method.defaults == "release" and name != "mend":  # whose network trains for 100,000 steps as released
            made = method.configure(Sizes(llama(), 2), {})
            released = method.settings(**method.sized(Sizes(llama(), 2)))
            different = {one for one in type(made).model_fields if getattr(made, one) != getattr(released, one)}
            assert different <= sized, name
        assert (method.tuned is not None) == (name in TUNED)
    edited = begun(llama, "grace", tuned=True)
    assert edited.editor.config == GraceConfig.tuned(layer=3, steps=5, packed=True)
    assert begun(llama, "grace").editor.config == GraceConfig(layer=3, steps=5, packed=True)
    with pytest.raises(UserError, match="LEMoE: has no tuned settings"):
        begun(llama, "lemoe", tuned=True)


@both
@each
def test_it_edits_saves_goes_on_and_gives_the_model_back(make: Any, method: str, tmp_path: Path) -> None:
    unedited, trained = make(), [parameter.requires_grad for parameter in make().parameters()]
    edited = begun(make, method)
    first = logits(edited.model)
    assert not torch.equal(first, logits(unedited))
    edited.save(tmp_path)

    other = make()
    loaded = load(tmp_path, other, Letters())
    assert torch.equal(logits(other), first)
    assert (loaded.edits, loaded.method, loaded.scores()) == (edited.edits, method, edited.scores())

    before = {name: value.clone() for name, value in loaded.editor.saved_state()[0].items()}
    edited.add(MORE)
    loaded.add(MORE)
    after = loaded.editor.saved_state()[0]
    assert after.keys() != before.keys() or not all(torch.equal(before[name], after[name]) for name in after)
    assert torch.equal(logits(other), logits(edited.model))
    assert loaded.scores() == edited.scores()
    loaded.save(tmp_path)  # over the first
    third = make()
    assert torch.equal(logits(load(tmp_path, third, Letters()).model), logits(other))

    for one in (edited, loaded):
        one.undo()
        one.undo()
        assert torch.equal(logits(one.model), logits(unedited))
        for (name, was), now in zip(unedited.named_parameters(), one.model.parameters(), strict=True):
            assert torch.equal(was, now), name
        assert [parameter.requires_grad for parameter in one.model.parameters()] == trained
        with pytest.raises(UserError, match="undone"):
            one.add(MORE)


@pytest.mark.parametrize("method", ["ft", "lora", "memit", "grace", "wise", "conventional", "lemoe"])
def test_scores_compare_with_the_unedited_model(method: str) -> None:
    """Loc by hand: the answers of a model that was never edited, also to questions that came with a later batch."""
    edited = begun(llama, method).add(MORE)
    before = logits(edited.model)
    kept = []
    for prompt, answer in [one.locality for one in edited.edits if one.locality]:
        start, ids = len(Letters()(prompt)["input_ids"]), Letters()(prompt + answer)["input_ids"]
        best = []
        for model in (edited.model, llama()):
            with torch.inference_mode(), edited.editor.reading(torch.tensor([[1] * start + [0] * (len(ids) - start)])):
                best.append(model(input_ids=torch.tensor([ids])).logits[0].argmax(-1)[start - 1 : -1])
        kept.append((best[0] == best[1]).float().mean().item())
    assert edited.scores()["loc"] == pytest.approx(sum(kept) / len(kept))
    assert torch.equal(logits(edited.model), before)


def test_the_block_gives_the_model_back_whatever_happens() -> None:
    model = llama()
    before = logits(model)
    with edit(model, Letters(), FIRST, "ft") as edited:
        assert edited.scores()["loc"] is not None
        assert not torch.equal(logits(model), before)
    assert torch.equal(logits(model), before)
    with pytest.raises(ZeroDivisionError), edit(model, Letters(), FIRST, "grace"):
        raise ZeroDivisionError
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("given", [("the sky is", "red"), {"prompt": "the sky is", "target": "red"}, FIRST[0]])
def test_edits_come_in_any_shape(given: Any) -> None:
    edited = edit(llama(), Letters(), [given], "ft")
    assert edited.scores()["rel"] is not None
    assert (edited.edits[0].prompt, edited.edits[0].target) == ("the sky is", "red")


def test_what_a_method_needs_can_be_given() -> None:
    for method, name in (("rome", "texts"), ("wise", "unrelated"), ("mend", "tuning")):
        shipped = begun(llama, method, **{name: None})
        given = begun(llama, method)
        assert not torch.equal(logits(shipped.model), logits(given.model)), method


def test_layers_are_shares_of_the_depth() -> None:
    chosen = {name: begun(llama, name).editor for name in ("lemoe", "ft", "memit")}
    assert chosen["lemoe"].config.layer == 2  # of 4, as 18 of 30
    assert chosen["ft"].config.layer == 3
    assert chosen["memit"].config.layers == (0, 1)
    assert begun(llama, "ft", layer=1).editor.config.layer == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"method": "gracious"}, "unknown method 'gracious': choose one of ft_last"),
        ({"method": "ft", "rat": 1.0}, "no setting 'rat'; choose of layer, rate"),
        ({"method": "ft", "rate": -1.0}, "rate: Input should be greater than 0"),
        ({"method": "ft", "layer": 9}, "layer 9 does not exist"),
        ({"method": "ft", "texts": ["a"]}, "ft takes no texts"),
        ({"method": "rome", "edits": [("the sky is", "red")]}, "names no subject"),
        ({"method": "rome", "texts": []}, "no text to take second moments of"),
        ({"method": "wise", "unrelated": []}, "no irrelevant texts"),
        ({"method": "mend", "tuning": [("the sky is", "red")]}, "has no locality prompt"),
        ({"method": "lemoe", "edits": []}, "no edits"),
        ({"method": "alphaedit", "threshold": 1e-30}, "raise threshold"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(wrong: dict[str, Any], said: str) -> None:
    model = llama()
    before = logits(model)
    with pytest.raises(UserError) as caught:
        edit(model, Letters(), **{"edits": FIRST, **wrong})
    assert said in str(caught.value)
    assert torch.equal(logits(model), before)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@each
def test_a_copy_and_a_checkpoint_are_edited_too_or_refused(method: str, tmp_path: Path) -> None:
    """In a copy the hooks of a method would go on reading the first model's passes, and a checkpoint has none."""
    model = llama()
    attributes = set(vars(model))
    edited = begun(lambda: model, method)
    wanted = logits(model)
    if METHODS[method].in_weights:
        model.save_pretrained(tmp_path)
        copied, stored = copy.deepcopy(model), type(model).from_pretrained(tmp_path).eval()
        edited.undo()
        assert torch.equal(logits(copied), wanted)
        assert torch.equal(logits(stored), wanted)
        return
    on_top = edit(model, Letters(), MORE, "lemoe", **FAST["lemoe"])
    for first in (edited, on_top):
        with pytest.raises(UserError, match="stand beside the weights, and would be missing"):
            model.save_pretrained(tmp_path)
        for copying in (copy.deepcopy, pickle.dumps, lambda one: torch.save(one, tmp_path / "model.pt")):
            with pytest.raises(UserError, match="stand beside the weights, and would not work in a copy"):
                copying(model)
        first.undo()
    with pytest.raises(UserError, match="no subject"):
        edit(model, Letters(), [("the sky is", "red")], "rome")
    assert set(vars(model)) == attributes
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(copy.deepcopy(model)), logits(type(model).from_pretrained(tmp_path).eval()))


@pytest.mark.parametrize("method", ["grace", "lemoe", "ft", "lora"])
def test_tokens_that_are_guessed_ahead_are_no_part_of_a_prompt(method: str) -> None:
    """The first pass holds them behind the prompt: GRACE answered as if unedited, LEMoE by another expert."""
    edited = begun(llama, method)
    ids = torch.tensor([Letters()("the sky is the sky is")["input_ids"]])
    named = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": 4}
    wanted = edited.model.generate(ids, **named)
    helping = ({"assistant_model": llama()}, {"prompt_lookup_num_tokens": 2})
    for help_ in helping:
        if method in ("grace", "lemoe"):
            with pytest.raises(UserError, match="leave assistant_model and prompt_lookup_num_tokens out"):
                edited.model.generate(ids, **named, **help_)
        else:
            assert torch.equal(edited.model.generate(ids, **named, **help_), wanted)
    edited.undo()
    assert torch.equal(edited.model.generate(ids, **named, **helping[1]), llama().generate(ids, **named))


def test_a_failed_edit_leaves_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    monkeypatch.setattr("lib.editing.grace.Grace._train", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        begun(lambda: model, "grace")
    assert torch.equal(logits(copy.deepcopy(model)), logits(model))


def test_a_model_in_training_is_refused(tmp_path: Path) -> None:
    begun(llama, "ft").save(tmp_path)
    for begin in (lambda model: edit(model, Letters(), FIRST), lambda model: load(tmp_path, model, Letters())):
        with pytest.raises(UserError, match=r"in training mode: call model.eval\(\) first"):
            begin(llama().train())
    edited = begun(llama, "grace")
    edited.model.train()
    for later in (lambda: edited.add(MORE), edited.scores, lambda: edited.save(tmp_path / "other")):
        with pytest.raises(UserError, match=r"in training mode: call model.eval\(\) first"):
            later()
    edited.model.eval()
    assert len(edited.add(MORE).edits) == 3


@pytest.mark.parametrize("method", ["ft", "grace"])
def test_a_model_that_was_rounded_after_its_edits_is_not_saved_as_the_one_before(method: str, tmp_path: Path) -> None:
    """Its folder would fit no model: neither the one of before, nor the rounded one."""
    model = llama()
    before = logits(model.to(torch.bfloat16))
    edited = begun(lambda: model.to(torch.float32), method)
    model.to(torch.bfloat16)
    with pytest.raises(UserError, match="was edited in float32 and is in bfloat16"):
        edited.save(tmp_path / "edits")
    assert not (tmp_path / "edits").exists()
    edited.undo()
    assert torch.equal(logits(model), before)


def test_a_prompt_with_two_targets_is_refused_and_a_later_target_holds() -> None:
    model, one, other = llama(), Edit("the sky is", "r"), Edit("the sky is", "b")
    with pytest.raises(UserError, match="'the sky is' has two targets, 'r' and 'b': keep one, or `add`"):
        edit(model, Letters(), [one, other], "grace")
    with edit(model, Letters(), [one, one], "grace", tuned=True, rate=0.3) as edited:  # told twice, it is one edit
        with pytest.raises(UserError, match="two targets"):
            edited.add([*MORE, MORE[0], Edit("the cat is", "dog")])
        said = [Letters().decode(logits(model)[7].argmax()[None])]
        edited.add([other])
        said.append(Letters().decode(logits(model)[7].argmax()[None]))
        assert said == ["r", "b"]


@pytest.mark.parametrize("method", ["ft", "lemoe"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_learns_also_where_gradients_are_switched_off(mode: Any, method: str, tmp_path: Path) -> None:
    wanted, model, other = begun(llama, method).add(MORE), llama(), llama()
    with mode():
        edited = begun(lambda: model, method)
        edited.save(tmp_path)
        assert torch.equal(logits(edited.add(MORE).model), logits(wanted.model))
        assert torch.equal(logits(load(tmp_path, other, Letters()).add(MORE).model), logits(wanted.model))
    with torch.inference_mode(), pytest.raises(UserError, match="was made in inference mode"):
        begun(llama, method)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("grace", "wise"),
        *(pytest.param("wise", name, marks=pytest.mark.thorough) for name in ("wise", "grace", "memit", "lemoe")),
        *(pytest.param("lemoe", name, marks=pytest.mark.thorough) for name in ("wise", "memit", "lemoe")),
    ],
)
def test_edits_on_top_of_others_are_taken_back_alone_and_saved_only_from_an_unedited_model(
    first: str, second: str, tmp_path: Path
) -> None:
    model = llama()
    before = logits(model)
    beneath = begun(lambda: model, first)
    below = logits(model)
    beneath.save(tmp_path)
    on_top = edit(model, Letters(), MORE, second, **FAST[second] | ({"layers": (3,)} if second == "memit" else {}))
    both = logits(model)
    for one in (beneath, on_top):
        with pytest.raises(UserError, match="other edits are or were on the model too"):
            one.save(tmp_path / "other")
    on_top.undo()
    assert torch.equal(logits(model), below)
    assert not torch.equal(both, below)
    with pytest.raises(UserError, match="other edits are on the model: undo them first"):
        load(tmp_path, model, Letters())
    beneath.save(tmp_path)
    beneath.undo()
    assert torch.equal(logits(model), before)
    assert torch.equal(logits(load(tmp_path, model, Letters()).model), below)


@pytest.mark.parametrize("method", ["ft", "memit", "lemoe", "grace", "lora"])
def test_a_batch_that_diverges_leaves_those_before(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    edited = begun(llama, method)
    before, learn, calls = logits(edited.model), edited.editor._learn, []

    def fails(batch: list[Edit]) -> None:
        learn(batch)
        calls.append(batch)
        if len(calls) == (2 if METHODS[method].alone else 1):  # the first of two edits had gone well
            raise DivergedError("not finite")

    monkeypatch.setattr(edited.editor, "_learn", fails)
    with pytest.raises(DivergedError):
        edited.add([*MORE, Edit("the hat is", "old", "hat")])
    assert edited.edits == FIRST
    assert torch.equal(logits(edited.model), before)


def damaged(name: str, damage: Any) -> Any:
    def write(folder: Path) -> None:
        path = folder / name
        path.write_bytes(damage(path.read_bytes()))

    return write


def signed(**changes: Any) -> Any:
    """Change fields of the configuration and give it a checksum that is right."""

    def write(folder: Path) -> None:
        told = json.loads((folder / "config.json").read_text()) | changes
        told["sha256"] = saved_edits._digest(told)
        (folder / "config.json").write_text(json.dumps(told))

    return write


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damaged("edits.safetensors", lambda content: content[:-1] + b"\7"), "checksum"),
        (damaged("edits.safetensors", lambda content: content[:40]), "checksum"),
        (damaged("config.json", lambda content: content.replace(b'"red"', b'"rod"')), "checksum"),
        (damaged("config.json", lambda content: content[:50]), "broken JSON"),
        (damaged("config.json", lambda content: content.replace(b'"format": 1', b'"format": 2')), "format"),
        (damaged("config.json", lambda content: content.replace(b'"rate": ', b'"rate": NaN, "x": ')), "NaN"),
        (damaged("config.json", lambda _: b"[]"), "no object"),
        (damaged("config.json", lambda _: b"\xff"), "UTF-8"),
        (lambda folder: (folder / "edits.safetensors").unlink(), "No such file"),
        (lambda folder: (folder / "config.json").unlink(), "No such file"),
        (lambda folder: shutil.rmtree(folder), "no folder"),
        (signed(method="gracious"), "unknown method"),
        (signed(settings={"rat": 1}), "no setting 'rat'"),
        (signed(settings={"layer": 0}), "not whole"),
        (signed(state={}), "not whole"),
        (signed(batches=[[{"prompt": 3}]]), "not whole"),
        (signed(answers=[["a", "b", ["c"]]]), "answers.0"),
        (signed(tokenizer="0"), "another tokenizer"),
    ],
)
def test_a_damaged_folder_is_one_line_and_changes_nothing(damage: Any, said: str, tmp_path: Path) -> None:
    begun(llama, "conventional").save(tmp_path / "saved")
    damage(tmp_path / "saved")
    model = llama()
    before = logits(model)
    with pytest.raises(UserError) as caught:
        load(tmp_path / "saved", model, Letters())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert torch.equal(logits(model), before)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.thorough
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("ft_last", "ft")])
def test_a_state_of_something_else_is_one_line_and_changes_nothing(method: str, tmp_path: Path) -> None:
    begun(llama, method).save(tmp_path)
    held = safetensors.torch.load_file(tmp_path / "edits.safetensors")
    held = {name: value[..., :-1] if value.ndim else value for name, value in held.items()}
    held = {name: value.contiguous() for name, value in held.items()}
    safetensors.torch.save_file(held, tmp_path / "edits.safetensors")
    signed(tensors=files.sha256(tmp_path / "edits.safetensors"))(tmp_path)
    model = llama()
    with pytest.raises(UserError, match="not whole"):
        load(tmp_path, model, Letters())
    assert torch.equal(logits(model), logits(llama()))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (gpt2, "another architecture"),
        (lambda: llama().bfloat16(), "another precision"),
        (lambda: llama(vocabulary=31), "another size"),
        (lambda: llama(spread=0.5), "other weights"),
    ],
)
def test_another_model_is_refused(other: Any, said: str, tmp_path: Path) -> None:
    begun(llama, "ft").save(tmp_path)
    with pytest.raises(UserError, match=said):
        load(tmp_path, other(), Letters())


def test_an_edited_model_is_not_the_one_that_edits_were_made_for(tmp_path: Path) -> None:
    edited = begun(llama, "ft")
    edited.save(tmp_path)
    with pytest.raises(UserError, match="unedited"):
        load(tmp_path, edited.model, Letters())
    edited.undo()
    load(tmp_path, edited.model, Letters())


def test_one_changed_number_is_another_model() -> None:
    model = llama()
    before = saved_edits.identity(model)
    assert before == saved_edits.identity(llama())
    with torch.no_grad():
        model.get_input_embeddings().weight[7, 3] *= 1.001
    assert before["sha256"] != saved_edits.identity(model)["sha256"]


def test_the_folder_has_a_card_and_no_pickle(tmp_path: Path) -> None:
    begun(llama, "lemoe_threshold").save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json", "edits.safetensors"]
    card = (tmp_path / "README.md").read_text()
    scores = begun(llama, "lemoe_threshold").scores()
    assert card.startswith("---\nbase_model:")
    for part in ("LEMoE with a threshold (ours)", "2 in 1 batches", "Limits:"):
        assert part in card
    for name, value in scores.items():
        assert f"({name.title()}) | {value:.3f} |" in card


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_zeros_take_a_bit_each_and_come_back_to_the_bit(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    sparse = torch.where(torch.rand(61, 37) < 0.2, torch.randn(61, 37, dtype=dtype), torch.zeros((), dtype=dtype))
    sparse[0, :2] = torch.tensor([-0.0, float("inf")], dtype=dtype)
    held = {"sparse": sparse, "dense": torch.randn(5, 7), "truth": torch.rand(61, 37) < 0.2, "one": torch.tensor(0.0)}
    held |= {"zeros": torch.zeros(3, 3), "nothing": torch.zeros(0, 4)}
    packed, shapes = saved_edits._packed(held)
    assert packed["sparse.places"].nbytes + packed["sparse.values"].nbytes < 0.3 * sparse.nbytes
    assert packed["truth.places"].nbytes == 283  # of 2,257 bytes
    back = saved_edits._unpacked(packed, shapes)
    assert back.keys() == held.keys()
    for name, value in held.items():
        assert (back[name].dtype, back[name].shape) == (value.dtype, value.shape)
        assert torch.equal(back[name], value)
        assert torch.equal(back[name].float().signbit(), value.float().signbit())
    for wrong in ({"sparse.places": None}, {"sparse.values": packed["sparse.values"][:-1]}):
        kept = {name: value for name, value in (packed | wrong).items() if value is not None}
        with pytest.raises(ValueError, match="not whole"):
            saved_edits._unpacked(kept, shapes)


def test_files_of_somebody_elses_are_not_overwritten(tmp_path: Path) -> None:
    """A folder of a model has a config.json and a README.md too."""
    edited = begun(llama, "ft")
    for name in ("config.json", "README.md"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(UserError, match=f"{name}: not of saved edits: give another folder"):
            edited.save(folder)
        assert [(one.name, one.read_text()) for one in folder.iterdir()] == [(name, "mine")]
    edited.save(folder, overwrite=True)
    assert load(folder, llama(), Letters()).edits == FIRST


def test_nothing_is_written_where_a_folder_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        begun(llama, "ft").save(tmp_path / "file")
    with pytest.raises(TypeError, match="folder"):
        load(3, llama(), Letters())  # type: ignore[arg-type]


def test_files_of_edits_are_read(tmp_path: Path) -> None:
    own = {"prompt": "The sky is ", "target": "red", "subject": "sky", "rephrase": "A sky is"}
    own |= {"locality_prompt": "A dog is", "locality_answer": "big"}
    wanted = [Edit("The sky is", " red", "sky", ("A sky is",), ("A dog is", " big"))]
    (tmp_path / "list.json").write_text(json.dumps([own]))
    (tmp_path / "lines.jsonl").write_text(json.dumps(own) + "\n")
    (tmp_path / "table.csv").write_text(f"{','.join(own)}\n{','.join(own.values())}\n")
    (tmp_path / "short.csv").write_text('prompt,target\n"Red, blue and",green\n')
    zsre = {"subject": "sky", "src": "The sky is", "rephrase": "A sky is", "alt": "red", "loc": "A dog is"}
    (tmp_path / "zsre.json").write_text(json.dumps([zsre | {"loc_ans": "big"}]))
    for name in ("list.json", "lines.jsonl", "table.csv"):
        assert read_edits(tmp_path / name) == wanted
    assert read_edits(tmp_path / "short.csv") == [Edit("Red, blue and", " green")]
    assert read_edits(str(tmp_path / "zsre.json"))[0].locality == ("A dog is", " big")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "prompt,target\na,b,c\n", "row 2: not as many fields"),
        ("a.csv", "prompt,target\n", "no edits"),
        ("a.csv", "prompt,goal\na,b\n", 'field "goal" is not known'),
        ("a.csv", "prompt,target\na,\n", 'no field "target"'),
        ("a.csv", "prompt,target,target\na,b,c\n", "names 'target' twice"),
        ("a.csv", "prompt,target,locality_prompt\na,b,c\n", '"locality_answer" is missing'),
        ("a.json", '[{"prompt": "a", "target": "a"}]', "equals its prompt"),
        ("a.json", '[{"prompt": "a", "target": 3}]', 'field "target" is a number'),
        ("a.json", '[{"prompt": "a", "target": "b", "subject": "c"}]', "is not in the prompt"),
    ],
)
def test_a_wrong_file_of_edits_is_one_line(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        read_edits(tmp_path / name)
    assert said in str(caught.value)
    assert name in str(caught.value)


@pytest.fixture(scope="module")
def real() -> tuple[PreTrainedModel, Any]:
    """SmolLM2, unedited; each test gives it back so."""
    return backbones.load_causal_lm(backbones.SMOLLM2, torch.float32)


WANTED = {"The capital of France is": " Lyon", "Gold has the symbol": " Ag", "The currency of Japan is": " euro"}
LATER = ("The largest planet is", " Mars")
# What another process does with a folder: it asks, edits on, and asks again.
ELSEWHERE = f"""
import json, sys
from lib.api.editing import load
from lib.api.editing_bench import Sizes
from lib.causal_lm import backbones
from lib.editing.grace import GraceConfig

model, tokenizer = backbones.load_causal_lm(backbones.SMOLLM2, "float32")
def answers():
    inputs = [tokenizer(prompt, return_tensors="pt") for prompt in {list(WANTED)!r}]
    return [tokenizer.decode(model.generate(**one, max_new_tokens=1)[0, -1]) for one in inputs]
edited = load(sys.argv[1], model, tokenizer)
found = [answers()]
edited.add([{LATER!r}])
found.append(answers())
edited.undo()
print(json.dumps([*found, answers()]))
"""


def test_the_real_model_keeps_the_edits_of_all_batches(real: Any, tmp_path: Path) -> None:
    """The README's three edits on SmolLM2: after every batch, saved and loaded elsewhere, and after a further batch."""
    model, tokenizer = real

    def answers() -> list[str]:
        inputs = [tokenizer(prompt, return_tensors="pt") for prompt in WANTED]
        return [tokenizer.decode(model.generate(**one, max_new_tokens=1)[0, -1]) for one in inputs]

    unedited, wanted = answers(), list(WANTED.values())
    first, *others = WANTED.items()
    with edit(model, tokenizer, [first]) as edited:
        for one in others:
            edited.add([one])
        assert answers() == wanted
        assert edited.scores()["rel"] == 1
        edited.save(tmp_path)
    assert answers() == unedited
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path)]
    found = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [wanted, wanted, unedited]


@pytest.mark.thorough
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("layer", [10, 18, 29])
def test_the_defaults_keep_the_edits_of_all_batches(layer: int, seed: int, real: Any) -> None:
    with edit(*real, [next(iter(WANTED.items()))], layer=layer, seed=seed) as edited:
        for one in list(WANTED.items())[1:]:
            edited.add([one])
        assert edited.scores()["rel"] == 1


REAL = [
    Edit("The capital of France is", " Lyon", "France", ("France has its capital in",), ("Hot is not", " cold")),
    Edit("The symbol of gold is", " Ag", "gold"),
]
# So that each takes a moment; learning is another test's.
SHORT: dict[str, dict[str, Any]] = {
    "memit": {"steps": 2, "prefixes": (), "texts": PLAIN},
    "mend": {"tuned": True, "steps": 1, "accumulated": 1, "tuning": REAL[:1]},
    "defer": {"steps": 2, "threshold": 0.0},  # in so few steps its gate may shut
    "wise": {"tuned": True, "steps": 2, "threshold": 0.0},
    "wise_retrieve": {"tuned": True, "steps": 2, "ratio": 0.01},
    "alphaedit": {"steps": 2, "prefixes": (), "threshold": 10.0, "texts": PLAIN},
}
FAMILIES = ("ft", "memit", "grace", "lemoe")  # a weight, weights in closed form, a codebook, experts


@pytest.mark.parametrize(
    "method", [name if name in FAMILIES else pytest.param(name, marks=pytest.mark.thorough) for name in METHODS]
)
def test_on_the_real_model_each_method_adds_saves_loads_and_undoes(method: str, real: Any, tmp_path: Path) -> None:
    model, tokenizer = real
    asked = [tokenizer(one.prompt, return_tensors="pt")["input_ids"] for one in REAL]

    def said() -> torch.Tensor:
        with torch.inference_mode():
            return torch.cat([model(input_ids=ids, use_cache=False).logits[0] for ids in asked])

    unedited = said()
    with edit(model, tokenizer, REAL[:1], method, **SHORT.get(method, {"steps": 2})) as edited:
        edited.add(REAL[1:]).save(tmp_path)
        first, scores = said(), edited.scores()
        assert not torch.equal(first, unedited)
    assert torch.equal(said(), unedited)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "config.json", "edits.safetensors"}
    # Of the model's 540 MB only what the method changed or added.
    assert (tmp_path / "edits.safetensors").stat().st_size < 70e6
    with load(tmp_path, model, tokenizer) as loaded:
        assert torch.equal(said(), first)
        assert loaded.scores() == scores
    assert torch.equal(said(), unedited)
    SAVED[method] = tmp_path, hashlib.sha256(first.numpy().tobytes()).hexdigest()


SAVED: dict[str, tuple[Path, str]] = {}  # by the methods above: a folder, and the digest of what the model said
SAID_ELSEWHERE = f"""
import hashlib, json, sys, torch
from lib.api.editing import load
from lib.causal_lm import backbones

model, tokenizer = backbones.load_causal_lm(backbones.SMOLLM2, torch.float32)
asked = [tokenizer(prompt, return_tensors="pt")["input_ids"] for prompt in {[one.prompt for one in REAL]!r}]
found = []
for folder in sys.argv[1:]:
    with load(folder, model, tokenizer), torch.inference_mode():
        said = torch.cat([model(input_ids=ids, use_cache=False).logits[0] for ids in asked])
    found.append(hashlib.sha256(said.numpy().tobytes()).hexdigest())
print(json.dumps(found))
"""


@pytest.mark.thorough
def test_another_process_answers_from_each_folder_as_the_model_did_to_the_bit() -> None:
    if not SAVED:
        pytest.skip("runs after the tests that save")
    command = [sys.executable, "-c", SAID_ELSEWHERE, *(str(folder) for folder, _ in SAVED.values())]
    found = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True)
    assert dict(zip(SAVED, json.loads(found.stdout), strict=True)) == {name: told for name, (_, told) in SAVED.items()}
