"""The distillation Trainer on tiny models: against transformers' own training, and against plain formulas."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional
from transformers import AutoModelForCausalLM, GPT2LMHeadModel, PreTrainedTokenizerFast, Trainer, TrainingArguments

from lib.api.distillation import DistillationTrainer
from lib.api.rows import encode
from lib.distillation.objective_config import ObjectiveConfig
from lib.errors import UserError
from tests import tiny_models

WORDS = [f"w{number}" for number in range(17)]
ROWS = [
    {"prompt": f"w{n % 5} w{n % 7} w3", "response": " ".join(f"w{(n * k) % 17}" for k in range(1, 2 + n % 4))}
    for n in range(1, 9)
]


def tokenizer(words: list[str] = WORDS) -> PreTrainedTokenizerFast:
    """Words parted by blanks: 0 is unknown, 1 the beginning, 2 the end."""
    vocabulary = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", *words])}
    made = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def small_student() -> GPT2LMHeadModel:
    model = tiny_models.small_gpt2()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # so that a formula can follow
    return model


def arguments(folder: Path, **given: object) -> TrainingArguments:
    plain: dict[str, object] = {
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.05,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "logging_steps": 1,
        "max_grad_norm": 0,
    }
    return TrainingArguments(str(folder), **(plain | given))


def trained(folder: Path, objective: ObjectiveConfig, **given: object) -> DistillationTrainer:
    named = {name: given.pop(name) for name in ("cache", "layer_map", "teacher_tokenizer") if name in given}
    student, teacher = small_student(), tiny_models.llama_of(given.pop("words", 20))
    trainer = DistillationTrainer(
        student, teacher, tokenizer(), ROWS, objective, arguments(folder, **given), longest=30, **named
    )
    trainer.train()
    return trainer


def weights(trainer: DistillationTrainer) -> dict[str, torch.Tensor]:
    return trainer.model.student.state_dict()


def assert_equal(one: DistillationTrainer, other: DistillationTrainer, tolerance: float = 1e-6) -> None:
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(other)[name], atol=tolerance, rtol=tolerance)


def test_cross_entropy_alone_is_the_trainers_own_training(tmp_path: Path) -> None:
    ours = trained(tmp_path, ObjectiveConfig(ce=1.0))
    plain = small_student()
    start = {name: value.clone() for name, value in plain.state_dict().items()}

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        filling = {"input_ids": 2, "attention_mask": 0, "labels": -100}
        return {
            name: torch.tensor([row[name] + [fill] * (longest - len(row[name])) for row in rows])
            for name, fill in filling.items()
        }

    examples = encode(tokenizer(), ROWS)
    data = [
        {
            "input_ids": [*one.prompt, *one.response],
            "attention_mask": [1] * len(one),
            "labels": [-100] * len(one.prompt) + list(one.response),
        }
        for one in examples
    ]
    Trainer(plain, arguments(tmp_path), train_dataset=data, data_collator=collate).train()
    assert any(not torch.equal(start[name], value) for name, value in plain.state_dict().items())
    for name, value in weights(ours).items():
        torch.testing.assert_close(value, plain.state_dict()[name], atol=1e-6, rtol=1e-5)


def test_the_logged_losses_are_the_formulas(tmp_path: Path) -> None:
    objective = ObjectiveConfig(ce=0.5, output=2.0, middle=1.0, alignment="none", distance="mse")
    trainer = trained(
        tmp_path, objective, layer_map={1: 2, 3: 3}, max_steps=1, per_device_train_batch_size=8, learning_rate=0.0
    )
    student, teacher = small_student(), tiny_models.llama_of(20)
    nats, kl, distance, count = 0.0, 0.0, 0.0, 0
    for one in encode(tokenizer(), ROWS):
        ids = torch.tensor([[*one.prompt, *one.response]])
        at = slice(len(one.prompt) - 1, ids.shape[1] - 1)
        with torch.no_grad():
            ours, theirs = (model(ids, output_hidden_states=True) for model in (student, teacher))
        q, p = (out.logits[0, at].log_softmax(-1) for out in (ours, theirs))
        nats += functional.nll_loss(q, torch.tensor(one.response), reduction="sum").item()
        kl += (p.exp() * (p - q)).sum().item()
        for layer, other in ((1, 2),):  # the last states stand after the final norm in transformers' list
            pair = [
                functional.layer_norm(o.hidden_states[n][0, at], (16,)) for o, n in ((ours, layer), (theirs, other))
            ]
            distance += (pair[0] - pair[1]).square().mean(-1).sum().item()
        count += len(one.response)
    (logged,) = [entry for entry in trainer.state.log_history if "ce_loss" in entry]
    assert logged["ce_loss"] == pytest.approx(nats / count, rel=1e-4)
    assert logged["output_loss"] == pytest.approx(kl / count, rel=1e-4)
    assert logged["middle_loss"] > distance / count / 2  # the mean over two pairs, of which the sum here has one
    total = 0.5 * logged["ce_loss"] + 2 * logged["output_loss"] + logged["middle_loss"]
    assert logged["loss"] == pytest.approx(total, rel=1e-4)
    assert (logged["ce_weight"], logged["output_weight"]) == (0.5, 2.0)


OBJECTIVE = ObjectiveConfig(output=1.0, middle=1.0, divergence="skewed_kl", settings={"alpha": 0.1})


def test_a_cached_teacher_teaches_as_a_live_one(tmp_path: Path) -> None:
    live = trained(tmp_path / "one", OBJECTIVE)
    cached = trained(tmp_path / "two", OBJECTIVE, cache=tmp_path / "cache")
    assert (tmp_path / "cache/output").exists()
    assert_equal(live, cached, 2e-3)  # the cache holds fp16
    again = trained(tmp_path / "three", OBJECTIVE, cache=tmp_path / "cache")
    assert_equal(cached, again, 0.0)


def test_accumulated_parts_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    whole = trained(tmp_path / "one", OBJECTIVE, per_device_train_batch_size=8)
    parts = trained(tmp_path / "two", OBJECTIVE, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert_equal(whole, parts, 1e-5)


def test_a_teacher_padded_to_more_rows_is_cut(tmp_path: Path) -> None:
    padded, plain = (trained(tmp_path / str(words), OBJECTIVE, words=words) for words in (24, 20))
    assert_equal(plain, padded)
    with pytest.raises(UserError, match="resize_token_embeddings"):
        trained(tmp_path, OBJECTIVE, words=16)


@pytest.mark.parametrize("pairing", ["universal_logit", "minimum_edit", "dual_space"])
def test_another_tokenizer_goes_to_the_losses_between_tokenizers(tmp_path: Path, pairing: str) -> None:
    other = tokenizer([*WORDS[::-1], "w99"])
    objective = ObjectiveConfig(output=1.0, pairing=pairing)
    trainer = trained(tmp_path, objective, words=21, teacher_tokenizer=other)
    losses = [entry["output_loss"] for entry in trainer.state.log_history if "output_loss" in entry]
    assert len(losses) == 4
    assert all(0 < loss < 50 for loss in losses)
    with pytest.raises(UserError, match="universal_logit"):
        trained(tmp_path, ObjectiveConfig(output=1.0), words=21, teacher_tokenizer=other)


def test_proportions_follow_the_training(tmp_path: Path) -> None:
    trainer = trained(tmp_path, OBJECTIVE.model_copy(update={"proportions": "gradnorm"}))
    found = [entry["middle_weight"] for entry in trainer.state.log_history if "middle_weight" in entry]
    assert len(set(found)) > 1


def test_a_saved_student_is_a_plain_model_and_a_checkpoint_goes_on(tmp_path: Path) -> None:
    whole = trained(tmp_path / "one", OBJECTIVE, save_strategy="steps", save_steps=2, optim="adamw_torch")
    whole.save_model(str(tmp_path / "student"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    for name, value in weights(whole).items():
        torch.testing.assert_close(loaded.state_dict()[name], value)
    student, teacher = small_student(), tiny_models.llama_of(20)
    args = arguments(tmp_path / "one", optim="adamw_torch", save_strategy="no")
    resumed = DistillationTrainer(student, teacher, tokenizer(), ROWS, OBJECTIVE, args, longest=30)
    resumed.train(resume_from_checkpoint=str(tmp_path / "one/checkpoint-2"))
    assert_equal(whole, resumed, 1e-6)


def test_the_best_checkpoint_is_loaded_at_the_end(tmp_path: Path) -> None:
    """With a rate that is far too large the first evaluation is the best one."""
    args = arguments(
        tmp_path, learning_rate=50.0, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1,
        load_best_model_at_end=True,
    )  # fmt: skip
    teacher = tiny_models.llama_of(20)
    trainer = DistillationTrainer(
        small_student(), teacher, tokenizer(), ROWS, OBJECTIVE, args, eval_rows=ROWS[:4], longest=30
    )
    trainer.train()
    losses = {one["step"]: one["eval_loss"] for one in trainer.state.log_history if "eval_loss" in one}
    best = min(losses, key=losses.__getitem__)
    assert best != max(losses)
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / f"checkpoint-{best}").state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in weights(trainer).items())
    assert trainer.evaluate()["eval_loss"] == pytest.approx(losses[best])


def test_gradient_checkpointing_gives_the_same_training(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain", OBJECTIVE)
    anew = trained(tmp_path / "anew", OBJECTIVE, gradient_checkpointing=True)
    assert any(getattr(part, "gradient_checkpointing", False) for part in anew.model.student.modules())
    assert_equal(plain, anew)


@pytest.mark.parametrize("name", ["train_dataset", "eval_dataset", "data_collator", "processing_class"])
def test_what_is_made_here_is_not_taken(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{name} is not taken: "):
        DistillationTrainer(small_student(), None, tokenizer(), ROWS, None, arguments(tmp_path), **{name: None})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no rows"),
        ([{"prompt": "w1"}], "row 1: response"),
        ([*ROWS, {"prompt": "w1", "response": 5}], "row 9: response"),
        ([{"prompt": " ", "response": "w2"}], "row 1: prompt"),
        ([{"messages": [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]}], "template"),
        ([{"prompt": "w1", "response": "w2 " * 40}], "row 1.*limit"),
        ([("w1", "w2")], "row 1 is of type tuple"),
        ({"prompt": "w1", "response": "w2"}, "row 1 is of type str"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_named(rows: list[dict], words: str) -> None:
    with pytest.raises(UserError, match=words):
        encode(tokenizer(), rows, 30)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (["w1", "w2"], "row 1: a message must be"),
        ([{"role": "user", "content": "w1"}, {"content": "w2"}], "row 1: a message must be"),
        ([{"role": "user", "content": "w1"}, {"role": "assistant", "content": None}], "row 1: the content of the last"),
        ([{"role": "user", "content": "w1"}, {"role": "assistant", "content": " "}], "row 1: the content of the last"),
        ([{"role": "user"}, {"role": "assistant", "content": "w2"}], "row 1: the tokenizer's template takes no such"),
    ],
)
def test_chats_that_cannot_be_learned_from_are_named(messages: list, words: str) -> None:
    chatting = tokenizer()
    chatting.chat_template = "{% for message in messages %}{{ message['content'] + ' ' }}{% endfor %}"
    with pytest.raises(UserError, match=words):
        encode(chatting, [{"messages": messages}], 30)


def test_a_teacher_is_asked_for_where_a_loss_reads_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reads a teacher"):
        DistillationTrainer(small_student(), None, tokenizer(), ROWS, OBJECTIVE, arguments(tmp_path))
