"""Students with other tokens than their teacher's: with the same tokens the losses are those of one tokenizer."""

import pytest
import torch

from lib.distillation import students
from lib.distillation.batches import Example, order
from lib.distillation.objective_config import ObjectiveConfig
from lib.distillation.objectives import Distillation, Live
from lib.distillation.own_tokenizer import NearestTokens, OwnTokenizer, SortedProbabilities, TwoSpaces, token_texts
from lib.distillation.teacher import Teacher
from lib.distillation.teacher_cache import Classes
from lib.distillation.training import TrainingConfig, train
from lib.errors import UserError
from tests.tiny_models import llama

MAPPING = {1: 2, 2: 4}
CONFIG = TrainingConfig(steps=3, batch=8, rate=1e-2)


class Letters:
    """Tokens that are single letters, or pairs of them as well."""

    pad, end, unknown = 0, 1, 0

    def __init__(self, texts: str) -> None:
        self.texts = ["", "", *texts.split()]

    def __len__(self) -> int:
        return len(self.texts)

    def encode(self, text: str) -> list[int]:
        ids = []
        while text:
            piece = text[:2] if text[:2] in self.texts else text[:1]
            ids.append(self.texts.index(piece))
            text = text[len(piece) :]
        return ids

    def decode(self, ids: list[int]) -> str:
        return "".join(self.texts[one] for one in ids)


SINGLE, PAIRS = Letters("a b c d e f"), Letters("a b c d e f ab cd ef fa")


def examples(vocabulary: Letters) -> list[Example]:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(24):
        prompt, response = (
            "".join("abcdef"[i] for i in torch.randint(0, 6, (int(n),), generator=generator))
            for n in torch.randint(2, 7, (2,), generator=generator)
        )
        rows.append(Example(tuple(vocabulary.encode(prompt)), (*vocabulary.encode(response), vocabulary.end)))
    return rows


ORDER = order([len(example) for example in examples(SINGLE)], CONFIG.batch, CONFIG.steps, 0)
TEACHER = Teacher(llama(), torch.arange(len(SINGLE)))
LIVE = Live(TEACHER, Classes(len(SINGLE)))


KINDS = {"universal_logit": SortedProbabilities, "minimum_edit": NearestTokens, "dual_space": TwoSpaces}


def arm(own: Letters = PAIRS, **changes: object) -> OwnTokenizer:
    config = ObjectiveConfig(**{"output": 1.0, "pairing": "minimum_edit", **changes})
    student = students.student("gpt2", 12, 2, 2, own)
    mapping = MAPPING if config.middle else None
    rows = (examples(own), examples(SINGLE))
    return KINDS[config.pairing](student, *rows, config, (own, SINGLE), CONFIG.steps, 0, LIVE, TEACHER, mapping)


def test_with_the_teachers_own_tokens_nearest_tokens_are_the_same_tokens() -> None:
    config = ObjectiveConfig(output=1.0, middle=1.0)
    student = students.student("gpt2", 12, 2, 2, SINGLE)
    one = Distillation(student, examples(SINGLE), config, 0, 1, CONFIG.steps, 0, LIVE, MAPPING, TEACHER.width)
    wanted = train(one, ORDER, CONFIG, 0).curve
    found = train(arm(SINGLE, middle=1.0), ORDER, CONFIG, 0).curve
    for row, same in zip(found, wanted, strict=True):
        assert row == pytest.approx(same, rel=1e-4)


@pytest.mark.parametrize(
    "changes", [{"pairing": "universal_logit"}, {"pairing": "dual_space"}, {"middle": 1.0}], ids=str
)
def test_a_batch_of_eight_is_two_of_four_accumulated_and_the_loss_falls(changes) -> None:
    config = CONFIG.model_copy(update={"steps": 3})
    whole = train(arm(**changes), ORDER, config, 0).curve
    split = train(arm(**changes), ORDER, config.model_copy(update={"micro_batches": 2}), 0).curve
    for row, same in zip(whole, split, strict=True):
        assert row == pytest.approx(same, rel=1e-4)
    assert whole[-1]["output"] < whole[0]["output"]


def test_states_compared_over_a_whole_step_are_not_split() -> None:
    one = arm(middle=1.0, distance="cka", alignment="none")
    assert len(one.prepare(0, ORDER[0], 2)) == 1
    assert len(arm(middle=1.0).prepare(0, ORDER[0], 2)) == 2
    split = train(one, ORDER, CONFIG.model_copy(update={"micro_batches": 2}), 0).curve
    whole = train(arm(middle=1.0, distance="cka", alignment="none"), ORDER, CONFIG, 0).curve
    assert [row["middle"] for row in split] == [row["middle"] for row in whole]


def test_universal_logit_is_the_mean_over_the_paired_tokens_of_sorted_differences() -> None:
    one = arm(pairing="universal_logit")
    (part,) = one.prepare(0, ORDER[0], 1)
    values = []
    with torch.no_grad():
        found = one.losses(part)["output"].item()
        for row in ORDER[0]:
            sides = []
            for example, model in (
                (examples(PAIRS)[row], one.student),
                (examples(SINGLE)[row], TEACHER.model),
            ):
                ids = torch.tensor([[*example.prompt, *example.response]])
                logits = model(input_ids=ids).logits[0, len(example.prompt) - 1 : -1]
                sides.append(logits.softmax(-1).sort(-1, descending=True).values)
            for q, p in zip(*sides, strict=False):
                values.append((q - torch.nn.functional.pad(p, (0, len(q) - len(p)))).abs().sum().item())
    assert found == pytest.approx(sum(values) / len(values), rel=1e-4)


def test_without_weight_on_the_teacher_or_without_one_only_the_students_own_loss_is_taken() -> None:
    one = arm(output=0.0)
    assert set(one.losses(one.prepare(0, ORDER[0], 1)[0])) == {"ce"}
    one = arm()
    assert set(one.losses(one.prepare(0, ORDER[0], 1)[0])) == {"ce", "output"}
    one._source = None
    assert set(one.losses(one.prepare(0, ORDER[0], 1)[0])) == {"ce"}


def test_no_state_of_the_teachers_is_read_but_those_that_are_compared() -> None:
    assert arm(pairing="universal_logit")._layers == arm()._layers == []
    assert arm(middle=1.0)._layers == [2, 4]
    assert arm(pairing="dual_space")._layers == [TEACHER.layers]


def test_the_matrices_are_those_of_attention_and_feed_forward_in_every_block() -> None:
    one = arm()
    names = {id(value): name for name, value in one.student.named_parameters()}
    parts = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    found = sorted(names[id(value)] for value in one.matrices)
    assert found == sorted(f"transformer.h.{layer}.{part}.weight" for layer in (0, 1) for part in parts)


def test_every_token_has_a_text_and_the_special_ones_their_own() -> None:
    texts = token_texts(PAIRS)
    assert texts[2:] == PAIRS.texts[2:]
    assert texts[PAIRS.pad] != texts[PAIRS.end]
    assert arm()._nearest.tolist() == list(range(len(SINGLE)))  # PAIRS begins with the same tokens


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(UserError, match="paired by minimum_edit"):
        arm(pairing="dual_space", middle=1.0)
    student = students.student("gpt2", 12, 2, 2, SINGLE)
    config = ObjectiveConfig(output=1.0, pairing="dual_space")
    with pytest.raises(UserError, match="pairs tokens of two tokenizers"):
        Distillation(student, examples(SINGLE), config, 0, 1, 1, 0, LIVE)
    one = arm()
    one._source = Live(TEACHER, Classes(len(SINGLE), 3))
    with pytest.raises(UserError, match="keeps the top k"):
        one.losses(one.prepare(0, ORDER[0], 1)[0])
