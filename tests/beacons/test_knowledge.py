"""What a model knows: SliCK's classes by hand, and the initial measures against plain passes of single facts."""

import dataclasses

import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cosine
from torch.nn import functional

from lib.beacons import answers, distance, knowledge
from lib.errors import UserError
from tests.beacons.made_facts import made_facts
from tests.tiny_models import Letters, both, llama

FACTS = made_facts()


def asked(fact, right_greedy, right_sampled):
    """Answers to four wordings with two draws each, so many of each sort right, the others beside it."""
    rows = [(fact.identity, prompt, 0, "x" if prompt >= right_greedy else fact.target) for prompt in range(4)]
    draws = [(prompt, sample) for prompt in range(4) for sample in (1, 2)]
    rows += [
        (fact.identity, prompt, sample, fact.target if place < right_sampled else "y")
        for place, (prompt, sample) in enumerate(draws)
    ]
    return pd.DataFrame(rows, columns=["identity", "prompt", "sample", "answer"])


def test_the_classes_are_slick_s():
    cases = [(4, 0, "highly known"), (3, 8, "maybe known"), (1, 0, "maybe known"), (0, 1, "weakly known")]
    cases += [(0, 8, "weakly known"), (0, 0, "unknown")]
    frame = pd.concat([asked(fact, *case[:2]) for fact, case in zip(FACTS, cases, strict=True)]).sample(
        frac=1, random_state=0
    )
    found = knowledge.classes(frame, FACTS)
    assert list(found.index) == [fact.identity for fact in FACTS]
    assert found["known"].tolist() == [name for _, _, name in cases]
    assert found["greedy"].tolist() == [greedy / 4 for greedy, _, _ in cases]
    assert found["sampled"].tolist() == [sampled / 8 for _, sampled, _ in cases]
    assert found["known"].min() == "highly known"


def test_classes_need_answers():
    with pytest.raises(UserError, match="'made/1': ask them"):
        knowledge.classes(asked(FACTS[0], 1, 1), FACTS[:2])
    frame = asked(FACTS[0], 1, 1)
    for rows, how in ((frame["sample"] > 0, "greedy"), (frame["sample"] == 0, "drawn")):
        with pytest.raises(UserError, match=f"no {how} answer on 1 facts, such as 'made/0'"):
            knowledge.classes(frame[rows], FACTS[:1])


def test_a_broken_model_and_another_number_of_answers_are_refused():
    with pytest.raises(ValueError, match="1 answers said on 2 facts"):
        knowledge.initial(llama(), Letters(), FACTS[:2], ["a"])
    broken = llama()
    with torch.no_grad():
        broken.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        knowledge.initial(broken, Letters(), FACTS[:2], ["a", "b"])


@both
def test_initial_loss_length_and_smooth_distance_are_those_of_plain_passes(make):
    model, tokenizer = make(), Letters()
    said = ["ab", "", "xyz", "q", "c", "zyxw"]
    found = knowledge.initial(model, tokenizer, FACTS, said)
    table = model.get_input_embeddings().weight.detach()
    for fact, row in zip(FACTS, found.itertuples(index=False), strict=True):
        before, after = (tokenizer(text)["input_ids"] for text in (fact.prompt, fact.taught))
        with torch.no_grad():
            logits = model(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
        assert (row.identity, row.tokens) == (fact.identity, len(after) - 1)  # without the full stop
        assert row.loss == pytest.approx(float(functional.cross_entropy(logits, torch.tensor(after))), abs=1e-4)
        ours, theirs = (logits.softmax(-1) @ table).mean(0), table[after].mean(0)
        assert row.expected == pytest.approx(cosine(ours.numpy(), theirs.numpy()), abs=1e-4)
    assert found["raw"][1] == 1
    assert found["raw"][4] == pytest.approx(0, abs=1e-6)
    for name in ("raw", "centred", "hidden"):
        ruler = distance.ruler(name, model, tokenizer)
        wanted = distance.distance(ruler, said, [fact.target for fact in FACTS]).tolist()
        assert found[name].tolist() == pytest.approx(wanted, abs=1e-6)


def test_frames_hold_every_wording_and_sample_and_measure_the_first_answer():
    model, tokenizer = llama(), Letters()
    found = knowledge.frames(model, tokenizer, FACTS, longest=4, samples=2, seed=0)
    told = found["answers"]
    assert len(told) == len(FACTS) * 4 * 3
    assert not told.duplicated(["identity", "prompt", "sample"]).any()
    for number in range(4):
        prompts = [(fact.prompt, *fact.paraphrases)[number] for fact in FACTS]
        chosen = told[(told["prompt"] == number) & (told["sample"] == 0)].set_index("identity")["answer"]
        assert [chosen[fact.identity] for fact in FACTS] == answers.greedy(model, tokenizer, prompts, 4)
        if number == 0:
            assert found["facts"]["answer"].tolist() == [chosen[fact.identity] for fact in FACTS]
    assert len(knowledge.classes(told, FACTS)) == len(FACTS)


def test_cosines_are_over_different_texts_and_over_the_vocabulary():
    model, tokenizer = llama(), Letters()
    facts = [*FACTS, dataclasses.replace(FACTS[0], identity="again")]  # a target that occurs twice counts once
    found = knowledge.cosines(model, tokenizer, facts, ["a", "a", "b", "", "cd", "a", "b"])
    found = found.set_index(["ruler", "of"])["cosine"]
    raw = distance.ruler("raw", model, tokenizer)
    assert found["raw", "answers"] == pytest.approx(distance.anisotropy(raw.vectors(["a", "b", "cd"])))
    assert found["raw", "targets"] == pytest.approx(distance.anisotropy(raw.vectors([f.target for f in FACTS])))
    table = model.get_input_embeddings().weight.detach()
    assert found["raw", "vocabulary"] == pytest.approx(distance.anisotropy(table))
    assert found["centred", "vocabulary"] == pytest.approx(distance.anisotropy(table - table.mean(0)))
    assert len(found) == 10
    alike = knowledge.cosines(model, tokenizer, facts, ["a"] * 7)  # one text has no pair
    assert sorted(set(alike["of"])) == ["targets", "vocabulary"]
