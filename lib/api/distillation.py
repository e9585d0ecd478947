"""A `transformers` Trainer that distils: the losses, layer maps and proportions of this project on one's own rows.

trainer = DistillationTrainer(student, teacher, tokenizer, rows, ObjectiveConfig(output=1.0, middle=1.0), arguments)
trainer.train()
trainer.save_model("student")           # a plain model, which transformers loads
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lib import progress
from lib.api.rows import Numbers, WholeVocabulary, check_trained, encode
from lib.distillation import batches, layer_maps, proportions
from lib.distillation.batches import Example
from lib.distillation.hidden_states import cka_matrix
from lib.distillation.layer_maps import LayerMap
from lib.distillation.objective_config import ObjectiveConfig
from lib.distillation.objectives import Cached, Distillation, Live, Source, depth
from lib.distillation.own_tokenizer import NearestTokens, OwnTokenizer, SortedProbabilities, TwoSpaces
from lib.distillation.teacher import Teacher, on, states_of
from lib.distillation.teacher_cache import Classes, TeacherCache
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["PAIRINGS", "DistillationTrainer"]

# By the names that `ObjectiveConfig.pairing` carries; "same" is for one tokenizer.
PAIRINGS: dict[str, type[OwnTokenizer]] = {
    "universal_logit": SortedProbabilities,
    "minimum_edit": NearestTokens,
    "dual_space": TwoSpaces,
}
BESIDE = "distillation.safetensors"  # what is trained beside the student, in a checkpoint
# Arguments of the Trainer that are made here, and what to give in their place.
OURS = {
    "model": "the student is it",
    "train_dataset": "give `rows`",
    "eval_dataset": "give `eval_rows`, of the same fields as `rows`",
    "data_collator": "rows are put together here",
    "processing_class": "give the `tokenizer`",
}
# So many rows are read to see which layers are alike, where the rule asks for it.
ROWS_READ = 32
# A cache of all tokens may take so much; beyond, the most probable ones and a tail are kept.
CACHE_GIB, CACHE_TOP_K = 2.0, 64


class Arm(nn.Module):
    """What the Trainer trains: the student, what learns beside it, and the losses of rows that are named by number."""

    accepts_loss_kwargs = True  # the Trainer counts the response tokens of a step, over all its parts and processes

    def __init__(self, arm: Distillation | OwnTokenizer) -> None:
        """Take an arm; its student and modules become this module's."""
        super().__init__()
        self._arm = (arm,)  # in a tuple: not a submodule, but what reads the ones below
        self.trained = arm.module
        self.step = 0

    @property
    def arm(self) -> Distillation | OwnTokenizer:
        """Return the arm itself."""
        return self._arm[0]

    @property
    def student(self) -> "PreTrainedModel":
        """Return the model that learns."""
        return self.arm.student

    def gradient_checkpointing_enable(self, **named: Any) -> None:
        """Have the student compute its blocks anew in the backward pass, as the Trainer's arguments ask."""
        self.student.gradient_checkpointing_enable(**named)

    def activation_checkpointing_enable(self, **named: Any) -> None:
        """Do the same, under the name that later versions of transformers have for it."""
        self.student.activation_checkpointing_enable(**named)

    def forward(self, rows: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> dict[str, Any]:
        """Return `loss`, a share of the mean over the response tokens of a whole step, and each loss of `rows` by name.

        `labels` (rows, tokens) only tells the Trainer which tokens count; `share` is how much of the step's tokens
        these rows have, 1 where the number of those is not known.
        """
        (part,) = self.arm.prepare(self.step, rows.tolist(), 1)
        losses = self.arm.losses(part)  # type: ignore[arg-type]  # each arm takes its own parts
        here = (labels >= 0).sum()
        share = here / num_items_in_batch if num_items_in_batch is not None else torch.ones((), device=here.device)
        return {"loss": self.arm.rule.combine(losses) * share, "losses": losses, "share": share}


class DistillationTrainer(Trainer):
    """transformers' Trainer with L = w_ce CE + w_out D(teacher || student) + w_mid d(A h_student, h_teacher).

    All else is the Trainer's: devices and processes (accelerate), precision, accumulation, schedules, checkpoints.
    """

    def __init__(
        self,
        student: "PreTrainedModel",
        teacher: "PreTrainedModel | None",
        tokenizer: "PreTrainedTokenizerBase",
        rows: Iterable[Mapping[str, Any]],
        objective: ObjectiveConfig | None = None,
        args: TrainingArguments | None = None,
        *,
        teacher_tokenizer: "PreTrainedTokenizerBase | None" = None,
        eval_rows: Iterable[Mapping[str, Any]] = (),
        layer_map: LayerMap | None = None,
        cache: Path | str | None = None,
        longest: int = 512,
        **named: Any,
    ) -> None:
        """Set up student, teacher and rows of {"prompt", "response"} or {"messages"}; see `encode`.

        `objective` (default: cross-entropy and output loss) names the losses; `layer_map`, or the objective's rule,
        says which states are compared; with a `cache` folder the teacher is read once and its signals are kept there,
        else it is read at every step. A teacher with another tokenizer needs `teacher_tokenizer` and a pairing of
        `PAIRINGS`. `named` goes to the Trainer, but for what `OURS` has. Raises `UserError` for what cannot be
        distilled, in one line.
        """
        for name in OURS.keys() & named.keys():
            raise UserError(f"{name} is not taken: {OURS[name]}")
        objective = objective or ObjectiveConfig(output=1.0)
        if objective.needs_teacher and teacher is None:
            raise UserError("this objective reads a teacher: give one, or an objective with output=0 and middle=0")
        check_trained(student)
        rows, eval_rows = list(rows), list(eval_rows)
        given = [*rows, *eval_rows]
        examples = encode(tokenizer, given, longest)
        own = WholeVocabulary(tokenizer)
        args = args or TrainingArguments(output_dir="distilled", report_to=[])
        steps = args.max_steps if args.max_steps > 0 else _steps(len(rows), args)
        other = _other(tokenizer, teacher_tokenizer)
        if other is None and objective.pairing != "same":
            raise UserError(f"{objective.pairing} pairs tokens of two tokenizers, and here there is one: leave it out")
        if other is not None and objective.needs_teacher and objective.pairing not in PAIRINGS:
            raise UserError(f"student and teacher have different tokenizers: set pairing to {', '.join(PAIRINGS)}")
        if teacher is None or not objective.needs_teacher:
            plain = objective.model_copy(update={"pairing": "same"})
            arm: Distillation | OwnTokenizer = Distillation(
                student, examples, plain, own.pad, own.end, steps, args.seed
            )
        elif other is None:
            read = Teacher(teacher, _shared_words(student, teacher), teacher.dtype)
            mapping = _layer_map(objective, layer_map, student, read, examples, own.pad)
            with args.main_process_first(local=False, desc="reading the teacher"):  # the others find its cache
                source, live = _sources(read, examples, own, sorted(set(mapping.values())), cache, whole=False)
            arm = Distillation(
                student, examples, objective, own.pad, own.end, steps, args.seed,
                source, mapping, read.width, live, longest,
            )  # fmt: skip
        else:
            read = Teacher(teacher, torch.arange(len(other)), teacher.dtype)
            theirs = encode(other.tokenizer, given, 2 * longest)
            mapping = _layer_map(objective, layer_map, student, read, None, own.pad)
            pairing = PAIRINGS[objective.pairing]
            layers = {*mapping.values(), *([read.layers] if pairing.reads_last else [])}
            with args.main_process_first(local=False, desc="reading the teacher"):
                source, _ = _sources(read, theirs, other, sorted(layers), cache, whole=True)
            arm = pairing(student, examples, theirs, objective, (own, other), steps, args.seed, source, read, mapping)
        super().__init__(
            Arm(arm),
            args,
            data_collator=_Collator(examples),
            train_dataset=Numbers("rows", range(len(rows))),
            eval_dataset=Numbers("rows", range(len(rows), len(given))) if eval_rows else None,
            processing_class=tokenizer,
            **named,
        )
        self._step = _Step()
        self.add_callback(_AfterEachStep(self._observe))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a part of a step, as the Trainer's own; the means of the named losses are logged."""
        arm: Arm = self.accelerator.unwrap_model(model)
        arm.step = self.state.global_step
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            share = outputs["share"].item()
            if num_items_in_batch is None:
                share /= self.current_gradient_accumulation_steps
            if num_items_in_batch is None or not self.args.average_tokens_across_devices:
                share /= self.accelerator.num_processes  # the tokens of the other processes were not counted
            self._step.add(outputs["losses"], arm.arm, share)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *rest: Any, **named: Any) -> None:
        """Log the losses of the last step by name, and their weights, beside what the Trainer logs."""
        if "loss" in logs:
            logs |= {f"{name}_loss": round(value, 6) for name, value in self._step.last.items()}
            logs |= {f"{name}_weight": round(value, 6) for name, value in self.model.arm.rule.weights().items()}
        super().log(logs, *rest, **named)

    def _observe(self) -> None:
        """Tell the proportions' rule what a whole step gave, in all processes, so that it stays the same in each."""
        means, norms = self._step.close(lambda part: self.accelerator.reduce(part, "sum"))
        if means:
            self.model.arm.rule.observe(means, norms or None)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write the student as a plain model, and what learns beside it in a file of its own."""
        del state_dict  # the arm's; the student's own is written
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        arm: Arm = self.accelerator.unwrap_model(self.model)
        arm.student.save_pretrained(folder)
        beside = {name: value for name, value in arm.trained.state_dict().items() if not name.startswith("student.")}
        save_file({name: value.contiguous() for name, value in beside.items()}, folder / BESIDE)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _load_best_model(self) -> None:
        """Take up the best checkpoint; the Trainer itself would look for the arm's weights in it, and find none."""
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Take up a checkpoint of `_save`."""
        del model
        arm: Arm = self.accelerator.unwrap_model(self.model)
        stored = type(arm.student).from_pretrained(resume_from_checkpoint, dtype=arm.student.dtype)
        arm.student.load_state_dict(stored.state_dict())
        arm.trained.load_state_dict(load_file(Path(resume_from_checkpoint) / BESIDE), strict=False)


@dataclass
class _Step:
    """The losses of the parts of a step so far, and their gradients where the rule of the proportions asks for them."""

    means: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, list[Tensor]] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)

    def add(self, losses: Mapping[str, Tensor], arm: Distillation | OwnTokenizer, share: float) -> None:
        """Add a part that is so large a share of its step."""
        for name, loss in losses.items():
            self.means[name] = self.means.get(name, 0.0) + share * loss.detach().float()
        if arm.rule.needs_norms:
            for name, found in proportions.gradients(losses, arm.shared).items():
                sofar = self.gradients.get(name, [torch.zeros_like(part) for part in found])
                self.gradients[name] = [before + share * part for before, part in zip(sofar, found, strict=True)]

    def close(self, summed: Callable[[Tensor], Tensor]) -> tuple[dict[str, float], dict[str, float]]:
        """Return the means and norms of the step, `summed` over the processes, and begin the next."""
        self.last = {name: summed(value).item() for name, value in self.means.items()}
        norms = {name: proportions.norm([summed(part) for part in parts]) for name, parts in self.gradients.items()}
        self.means, self.gradients = {}, {}
        return self.last, norms


class _AfterEachStep(TrainerCallback):
    """Calls a function after each step of the optimiser."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._call()


class _Collator:
    """Rows by number, with the labels by which the Trainer counts response tokens."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._lengths = [len(example.response) for example in examples]

    def __call__(self, rows: Sequence[Mapping[str, int]]) -> dict[str, Tensor]:
        numbers = torch.tensor([row["rows"] for row in rows])
        lengths = torch.tensor([self._lengths[number] for number in numbers.tolist()])
        # Before the first place the Trainer looks at stands one that does not count.
        places = torch.arange(-1, int(lengths.max()))
        inside = (places >= 0) & (places < lengths[:, None])
        return {"rows": numbers, "labels": torch.where(inside, 0, -100)}


def _steps(rows: int, args: TrainingArguments) -> int:
    """Return the number of steps that a training of whole epochs takes."""
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return max(1, round(args.num_train_epochs * -(-rows // batch)))


def _other(own: "PreTrainedTokenizerBase", teachers: "PreTrainedTokenizerBase | None") -> WholeVocabulary | None:
    """Return the teacher's tokens where they are others than the student's."""
    if teachers is None or teachers is own or teachers.get_vocab() == own.get_vocab():
        return None
    return WholeVocabulary(teachers)


def _shared_words(student: "PreTrainedModel", teacher: "PreTrainedModel") -> Tensor:
    """Return the ids that both models predict: a teacher padded to more rows is cut.

    Raises `UserError` for a student that predicts more.
    """
    ours, theirs = (model.get_output_embeddings().weight.shape[0] for model in (student, teacher))
    if ours > theirs:
        raise UserError(
            f"the student predicts {ours} tokens, the teacher {theirs}: student.resize_token_embeddings({theirs}), or "
            "name the teacher's own tokenizer"
        )
    return torch.arange(ours)


def _layer_map(
    objective: ObjectiveConfig,
    given: LayerMap | None,
    student: "PreTrainedModel",
    teacher: Teacher,
    examples: Sequence[Example] | None,
    pad: int,
) -> LayerMap:
    """Return the map that was given, else the rule's; none where no loss compares states."""
    if objective.middle <= 0:
        return {}

    def alike() -> np.ndarray:
        if examples is None:
            raise UserError("no rule compares layers across tokenizers: give a layer_map")
        batch = batches.collate(examples[:ROWS_READ], pad)
        sides = [(student, depth(student)), (teacher.model, teacher.layers)]
        found = []
        for model, layers in sides:
            here = on(batch, model.device)
            with states_of(model, range(1, layers + 1)) as seen, torch.no_grad():
                model.base_model(input_ids=here.ids, attention_mask=here.mask.long(), use_cache=False)
            found.append({layer: state[here.predicting].cpu() for layer, state in seen.items()})
        return cka_matrix(*found).numpy()

    chosen = given or layer_maps.RULES[objective.rule](depth(student), teacher.layers, alike)
    return layer_maps.check(chosen, teacher.layers, depth(student))


def _sources(
    teacher: Teacher,
    examples: Sequence[Example],
    vocabulary: WholeVocabulary,
    layers: Sequence[int],
    cache: Path | str | None,
    whole: bool,
) -> tuple[Source, Live]:
    """Return where the teacher's signals come from: itself, or a cache that one pass of it fills."""
    lengths = [len(example.response) for example in examples]
    size = len(teacher.model.get_input_embeddings().weight)
    classes = Classes(size)
    if cache is not None and not whole:
        classes = Classes.fitting(size, sum(lengths), min(CACHE_TOP_K, size - 1), CACHE_GIB)
    live = Live(teacher, classes)
    if cache is None:
        return live, live
    weights = {name: value.double().sum().item() for name, value in teacher.model.state_dict().items()}
    rows = [[*example.prompt, -1, *example.response] for example in examples]
    kept = TeacherCache(Path(cache), {"teacher": _digest(weights), "rows": _digest(rows)}, lengths, classes)
    parts = batches.by_length([len(example) for example in examples], ROWS_READ)
    with_batches = ((part, batches.collate([examples[row] for row in part], vocabulary.pad)) for part in parts)
    read = ((part, live.signals(part, batch, layers)) for part, batch in with_batches)
    kept.fill(layers, teacher.width, progress.bar(read, "reading the teacher", len(parts)))
    return Cached(kept), live


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
