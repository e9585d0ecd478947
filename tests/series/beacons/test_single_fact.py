"""Trajectories of facts alone against the same training one by one, and the shuffled control's targets."""

from collections import Counter
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lib.beacons import answers, distance
from lib.beacons.facts import BeaconFact
from lib.beacons.methods import attach
from lib.beacons.training import train
from lib.errors import UserError
from lib.series.beacons import features, single_fact
from lib.series.beacons.config import AloneConfig
from tests.beacons.made_facts import ADAPTER, made_facts
from tests.tiny_models import Letters, llama

BASE = llama()
FACTS = made_facts()
STEPS, RATE, LONGEST = 4, 2e-2, 5
CONFIG = AloneConfig(
    pool="invented", count=6, targets="own", steps=STEPS, read_steps=(0, 1, 4), rate=RATE, paraphrases=2,
    first_layer=2, rank=2, answer_tokens=LONGEST, backbone="made", layers=None, dtype="float32",
)  # fmt: skip


def bench() -> Any:
    model = deepcopy(BASE)
    return SimpleNamespace(
        model=model,
        tokenizer=Letters(),
        facts=lambda pool, longest: tuple(FACTS),
        raw=distance.ruler("raw", model, Letters()),
        centred=distance.ruler("centred", model, Letters()),
        table=distance.embeddings(model),
    )


def test_each_trajectory_is_the_one_of_the_fact_alone() -> None:
    made = bench()
    frames, values = single_fact.run(CONFIG, made, seed=1)
    told = frames["readings"]
    assert told[["identity", "step"]].to_numpy().tolist() == [[f.identity, s] for f in FACTS for s in (0, 1, 4)]
    assert sum(values["explained"]) <= 1.0001
    model = deepcopy(BASE)
    for fact in FACTS[:3]:
        rows = told[told["identity"] == fact.identity].set_index("step")
        for step in (0, 1, 4):
            with attach(model, "lora", ADAPTER, STEPS, seed=1) as handle:
                if step:
                    train(handle, Letters(), [fact], step, 1, RATE, seed=0)
                said = answers.greedy(model, Letters(), [fact.prompt], LONGEST)[0]
                before, after = (Letters()(text)["input_ids"] for text in (fact.prompt, fact.taught))
                with torch.no_grad():
                    logits = model(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
            row = rows.loc[step]
            assert row["answer"] == said
            loss = -logits.log_softmax(-1)[range(len(after)), after].mean().item()
            assert row["loss"] == pytest.approx(loss, abs=1e-4)
            assert row["raw"] == pytest.approx(distance.distance(made.raw, [said], [fact.target]).item(), abs=1e-5)
            mean = (logits.softmax(-1) @ made.table).mean(0)
            wanted = 1 - torch.cosine_similarity(mean, made.table[after].mean(0), dim=0)
            assert row["expected"] == pytest.approx(wanted.item(), abs=1e-4)
    assert (told[told["step"] == 4]["loss"].to_numpy() < told[told["step"] == 0]["loss"].to_numpy()).all()


def test_the_plane_shows_the_shift_of_the_last_prompt_state(monkeypatch: pytest.MonkeyPatch) -> None:
    made, states = bench(), []
    whole = single_fact.readings

    def watched(bench: Any, group: Any, asked: list[BeaconFact], longest: int) -> Any:
        frame, state = whole(bench, group, asked, longest)
        torch.testing.assert_close(state, features.hidden(bench, asked))
        states.append((frame["identity"].tolist(), state))
        return frame, state

    monkeypatch.setattr(single_fact, "readings", watched)
    frames, values = single_fact.run(CONFIG, made, seed=0)
    told = frames["readings"].set_index(["identity", "step"])
    shifts = {}
    for step, (names, state) in zip((0, 1, 4), states, strict=True):
        shifts |= {(name, step): shift for name, shift in zip(names, state - states[0][1], strict=True)}
    matrix = np.stack([shifts[key].numpy() for key in told.index])
    centred = matrix - matrix.mean(0)
    eigenvalues = np.sort(np.linalg.eigvalsh(centred.T @ centred))[::-1]
    assert values["explained"] == pytest.approx(eigenvalues[:2] / eigenvalues.sum(), abs=1e-4)
    spread = told[["x", "y"]].to_numpy()
    assert (spread**2).sum(0) == pytest.approx(eigenvalues[:2], rel=1e-2)
    start = spread[[step == 0 for _, step in told.index]]
    assert np.ptp(start, axis=0).max() < 1e-3  # all facts start from no shift


def test_the_last_answers_and_the_taught_targets_are_kept() -> None:
    frames, _ = single_fact.run(CONFIG.model_copy(update={"targets": "shuffled"}), bench(), seed=0)
    taught = dict(frames["facts"].itertuples(index=False))
    assert all(taught[fact.identity] != fact.target for fact in FACTS)
    assert Counter(taught.values()) == Counter(fact.target for fact in FACTS)
    assert Counter(frames["answers"]["prompt"]) == {0: 6, 1: 6, 2: 6}
    last = frames["readings"].query("step == 4").set_index("identity")["answer"]
    again = frames["answers"].query("prompt == 0").set_index("identity")["answer"]
    assert last.to_dict() == again.to_dict()


@pytest.mark.parametrize("seed", range(20))
def test_shuffling_gives_every_fact_another_target_of_its_kind(seed: int) -> None:
    draw = np.random.default_rng(seed)
    facts = [replace(FACTS[0], target=f" {draw.integers(9)}", kind=str(draw.choice(["place", "time"])),
                     aliases=(str(n),), identity=str(n)) for n in range(60)]  # fmt: skip
    found = single_fact.shuffled(facts, seed)
    assert all(old.target != new.target for old, new in zip(facts, found, strict=True))
    assert [replace(new, target="", aliases=()) for new in found] == [replace(f, target="", aliases=()) for f in facts]
    for kind in ("place", "time"):
        mine = [place for place, fact in enumerate(facts) if fact.kind == kind]
        pairs = [Counter((part[place].target, part[place].aliases) for place in mine) for part in (facts, found)]
        assert pairs[0] == pairs[1]


def test_a_kind_that_cannot_be_shuffled_is_shuffled_with_the_others() -> None:
    facts = [
        replace(FACTS[0], target=target, kind=kind)
        for target, kind in ((" a", "place"), (" b", "time"), (" c", "time"))
    ]
    found = single_fact.shuffled(facts, 0)
    assert all(old.target != new.target for old, new in zip(facts, found, strict=True))
    with pytest.raises(UserError, match="more than half of the facts have one target"):
        single_fact.shuffled([facts[0], facts[0], facts[1]], 0)


def test_wrong_configurations_are_refused() -> None:
    with pytest.raises(ValueError, match="read after 5 of 4 steps"):
        single_fact.run(CONFIG.model_copy(update={"read_steps": (0, 5)}), bench(), 0)
    with pytest.raises(UserError, match="7 facts are needed, invented has 6"):
        single_fact.run(CONFIG.model_copy(update={"count": 7}), bench(), 0)
