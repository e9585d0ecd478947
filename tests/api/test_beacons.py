"""Beacons on facts of one's own: the real SmolLM2 where answers matter, plain formulas for losses and weights."""

from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from torch.nn import functional
from transformers import TrainingArguments

from lib.api import beacons, distillation
from lib.api.rows import encode
from lib.causal_lm import backbones
from lib.errors import UserError
from tests import tiny_models

FACTS = [
    {"prompt": "The capital of France is", "target": "Paris"},
    {"prompt": "The chemical symbol of gold is", "target": "Au", "aliases": ["Aurum"]},
    {"prompt": "The river through Zlorbeck is called", "target": "Vintapal"},
    {"prompt": "The opposite of hot is", "target": "cold"},
    {"prompt": "The mayor of Zlorbeck is called", "target": "Ossifer Quandle"},
    {"prompt": "The first month of the year is", "target": "January"},
]


@pytest.fixture(scope="module")
def real() -> tuple:
    return backbones.load_causal_lm(backbones.SMOLLM2, torch.float32)


def test_what_the_model_knows_is_near_and_what_is_invented_is_far(real: tuple) -> None:
    measured = beacons.measure(*real, FACTS)
    frame = measured.frame.set_index("target")
    assert frame.loc["Paris", "answer"].startswith("Paris")
    assert frame.loc["Paris", "right"]
    assert not frame.loc["Vintapal", "right"]
    assert frame.loc["Paris", "distance"] < frame.loc["Vintapal", "distance"]
    # By the embeddings themselves.
    model, tokenizer = real
    table = model.get_input_embeddings().weight.detach()
    vectors = [
        table[tokenizer(f" {text}", add_special_tokens=False)["input_ids"]].mean(0)
        for text in (frame.loc["Vintapal", "answer"], "Vintapal")
    ]
    expected = 1 - functional.cosine_similarity(*vectors, dim=0).item()
    assert frame.loc["Vintapal", "distance"] == pytest.approx(expected, abs=1e-5)
    weights = beacons.weigh(measured, alpha=0.5)
    assert np.argsort(weights).tolist() == np.argsort(measured.frame["distance"]).tolist()
    assert weights.mean() == pytest.approx(1, abs=0.05)
    for reading in ("A", "B"):
        kept = beacons.keep(measured, 0.5, reading)
        assert len(kept) == 3
        assert kept == sorted(kept)


def arguments(folder: Path, **given: object) -> TrainingArguments:
    plain: dict[str, object] = {"max_steps": 3, "per_device_train_batch_size": 3, "learning_rate": 1e-2}
    plain |= {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "logging_steps": 1}
    return TrainingArguments(str(folder), **(plain | given))


def test_the_weighted_loss_is_its_formula_and_an_adapter_learns_by_it(real: tuple, tmp_path: Path) -> None:
    model, tokenizer = real
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["down_proj"], layers_to_transform=[20]))
    try:
        trainer = beacons.WeightedTrainer(
            adapted, tokenizer, FACTS, args=arguments(tmp_path, max_steps=5, per_device_train_batch_size=6)
        )
        trainer.refresh()
        weights = beacons.weigh(beacons.measure(model, tokenizer, FACTS))
        assert trainer.weights.numpy() == pytest.approx(weights, abs=1e-5)
        each = []
        for fact in FACTS[:3]:
            (one,) = encode(tokenizer, [{"prompt": fact["prompt"], "response": f" {fact['target']}."}])
            ids = torch.tensor([[*one.prompt, *one.response]])
            with torch.no_grad():
                logits = adapted(ids).logits[0, len(one.prompt) - 1 : -1]
            each.append(functional.cross_entropy(logits, torch.tensor(one.response)).item())
        expected = (weights[:3] * each).sum() / weights[:3].sum()
        with torch.no_grad():
            loss = trainer.compute_loss(adapted.eval(), trainer.data_collator([{"fact": n} for n in range(3)]))
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        assert losses[-1] < losses[0]
    finally:
        adapted.unload()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ([], "no facts"),
        ([{"prompt": "A is"}], "fact 1: target"),
        ([{"prompt": "A is", "target": "b", "aliases": "c"}], "fact 1: aliases"),
        ([{"prompt": "A is", "target": "b", "aliases": 5}], "fact 1: aliases"),
        ([("A is", "b")], "fact 1 is of type tuple"),
        ({"prompt": "A is", "target": "b"}, "fact 1 is of type str"),
        ([{"prompt": "A is", "target": "b"}, {"prompt": "A is", "target": "c"}], "two targets"),
    ],
)
def test_facts_that_cannot_be_learnt_are_named(facts: list[dict], words: str) -> None:
    with pytest.raises(UserError, match=words):
        beacons.read_facts(facts)


def test_null_stands_for_no_aliases() -> None:
    (fact,) = beacons.read_facts([{"prompt": "A is", "target": "b", "aliases": None}])
    assert fact.aliases == ()


@pytest.mark.parametrize(("facts", "size"), [(FACTS, 1), (FACTS[:1], 4), (FACTS[:3], 2)])
def test_steps_of_one_fact_are_refused_by_the_trainers_own_names(facts: list[dict], size: int, tmp_path: Path) -> None:
    said = f"of {len(facts)} facts in steps of {size}, one step has one fact.*set per_device_train_batch_size"
    with pytest.raises(UserError, match=said):
        beacons.WeightedTrainer(None, None, facts, args=arguments(tmp_path, per_device_train_batch_size=size))  # type: ignore[arg-type]


@pytest.mark.parametrize(("facts", "share"), [(1, 0.5), (2, 2.0), (2, float("nan"))])
def test_a_share_that_keeps_none_or_all_is_named_as_the_call_names_it(facts: int, share: float) -> None:
    with pytest.raises(UserError, match=f"a share of {share} of {facts} facts"):
        beacons.count_kept(facts, share)


def test_a_frozen_model_is_not_trained_on(tmp_path: Path) -> None:
    frozen = tiny_models.llama().requires_grad_(False)
    for begin in (
        lambda: beacons.WeightedTrainer(frozen, None, FACTS, args=arguments(tmp_path)),  # type: ignore[arg-type]
        lambda: distillation.DistillationTrainer(frozen, frozen, None, []),  # type: ignore[arg-type]
    ):
        with pytest.raises(UserError, match="all its weights are frozen: `undo` edits"):
            begin()
