"""What each verb of the command line does: read, call the library, and tell it as a document and as text."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lib import paths, progress, strict_json
from lib.api import arguments
from lib.api.told import Told, cell, finite, one_line, table
from lib.errors import DivergedError, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def methods(options: argparse.Namespace) -> Told:
    """Tell the methods that edit a model."""
    del options
    from lib.api import editing

    told = ("title", "about", "stores", "limits", "defaults", "needs", "subject")
    rows = [{"name": name, **{one: getattr(row, one) for one in told}} for name, row in editing.METHODS.items()]
    shown = [{one: row[one] for one in ("name", "title", "about")} for row in rows]
    return Told({"methods": rows}, table(shown, {"about": 200}))


def edit(options: argparse.Namespace) -> Told:
    """Edit a model with the edits of a file, save what was learnt, and score it on them."""
    from lib.api import editing

    row = editing.METHODS[options.method]
    settings = arguments.settings(options.set)
    edits = editing.read_edits(options.edits)
    prompts = arguments.lines(options.test, "prompts") if options.test else []
    given: dict[str, Any] = {}
    for name in ("texts", "unrelated"):
        if path := getattr(options, name):
            given[name] = arguments.lines(path, "texts")
    if options.tuned:
        given["tuned"] = True
    if options.tuning:
        given["tuning"] = editing.read_edits(options.tuning)
    # A seed of 0 is what every configuration has; some have none.
    if options.seed and "seed" in row.settings.model_fields:
        settings.setdefault("seed", options.seed)
    folder = arguments.out_folder(options.out, options.overwrite, [options.model])
    model, tokenizer = _loaded(options.model, options)
    before = [_answer(model, tokenizer, prompt, options.longest) for prompt in prompts]
    note(f"editing with {row.title}: {len(edits)} edits")
    began = time.perf_counter()
    edited = _settled(lambda: editing.edit(model, tokenizer, edits, options.method, **given, **settings))
    seconds = time.perf_counter() - began
    edited.save(folder, overwrite=True)  # `out_folder` has asked
    scores = {name: finite(value) for name, value in edited.scores().items()}
    after = [_answer(model, tokenizer, prompt, options.longest) for prompt in prompts]
    answered = zip(prompts, before, after, strict=True)
    answers = [{"prompt": prompt, "before": one, "after": other} for prompt, one, other in answered]
    document = {
        "model": options.model,
        "method": options.method,
        "edits": len(edits),
        "seconds": round(seconds, 3),
        "scores": scores,
        "answers": answers,
        "out": str(folder),
    }
    shown = "  ".join(f"{name.capitalize()} {cell(value)}" for name, value in scores.items())
    told = [f"{len(edits)} edits by {row.title} in {seconds:.1f} s, saved in {paths.relative(folder)}", shown]
    return Told(document, "\n".join([*told, *([table(answers)] if answers else [])]))


def ask(options: argparse.Namespace) -> Told:
    """Answer prompts greedily with a model and the edits that were saved in a folder."""
    from lib.api import editing

    prompts = _given(options.prompts, options.file, "prompts")
    if not options.folder.is_dir():
        raise UserError(f"{paths.relative(options.folder)}: no such folder: name one that `edit` has saved")
    model, tokenizer = _loaded(options.model, options)
    edited = editing.load(options.folder, model, tokenizer)
    answers = [{"prompt": one, "answer": _answer(edited.model, tokenizer, one, options.longest)} for one in prompts]
    document = {"model": options.model, "folder": str(options.folder), "answers": answers}
    return Told(document, "\n".join(one_line(one["prompt"] + one["answer"]) for one in answers))


def train_diffusion(options: argparse.Namespace) -> Told:
    """Train InfoDiffusion or DiffuSeq on sentence pairs and save the writer."""
    from lib.api import diffusion

    named = {name: getattr(options, name) for name in DIFFUSION_SIZES}
    process = arguments.settings(options.set)
    for name in process:
        if name in named or name in ("steps", "seed", "device", "workspace", "window", "method", "pairs"):
            raise UserError(f"--set {name}: an argument of its own: write --{name.replace('_', '-')}")
    folder = arguments.out_folder(options.out, options.overwrite)
    note(f"training {options.method}: {options.steps} steps")
    began = time.perf_counter()
    writer = _settled(
        lambda: diffusion.train(
            options.pairs, options.steps, options.method, seed=options.seed, device=options.device,
            workspace=options.workspace, **named, **process,
        )
    )  # fmt: skip
    seconds = time.perf_counter() - began
    writer.save(folder, overwrite=True)  # `out_folder` has asked
    parameters = sum(value.numel() for value in writer.model.parameters())
    document = {
        "method": options.method,
        "steps": options.steps,
        "parameters": parameters,
        "words": len(writer.words),
        "seconds": round(seconds, 3),
        "out": str(folder),
    }
    told = f"{options.method}, {parameters:,} parameters, {len(writer.words):,} words: {options.steps} steps in "
    return Told(document, f"{told}{seconds:.1f} s, saved in {paths.relative(folder)}")


DIFFUSION_SIZES = (
    "diffusion_steps", "sampling_steps", "width", "layers", "heads", "embedding", "most_words", "tokens", "rate",
)  # fmt: skip


def write(options: argparse.Namespace) -> Told:
    """Write targets for sentences with a trained writer."""
    from lib.api import diffusion

    sources = _given(options.sentences, options.file, "sentences")
    writer = diffusion.load(options.folder, options.device)
    written = writer.sample(sources, options.candidates, options.steps, options.seed)
    rows = [{"source": one, "candidates": found} for one, found in zip(sources, written, strict=True)]
    return Told(
        {"folder": str(options.folder), "sentences": rows}, "\n".join(one for found in written for one in found)
    )


def distil(options: argparse.Namespace) -> Told:
    """Distil a teacher into a student on rows of prompts and responses, and save the student."""
    from transformers import TrainingArguments

    from lib.api.distillation import PAIRINGS, DistillationTrainer
    from lib.api.rows import encode
    from lib.distillation import alignment, divergences, hidden_states, layer_maps, objective_config, proportions

    known: dict[str, Mapping[str, Any]] = {
        "divergence": divergences.DIVERGENCES, "rule": layer_maps.RULES, "alignment": alignment.ALIGNMENTS,
        "distance": hidden_states.DISTANCES, "proportions": proportions.PROPORTIONS,
        "pairing": {"same": None, **PAIRINGS},
    }  # fmt: skip
    chosen = {name: getattr(options, name) for name in known}
    for name, names in known.items():
        if chosen[name] not in names:
            raise UserError(f"--{name} {strict_json.clip(chosen[name])}: take one of {', '.join(names)}")
    weights = {name: getattr(options, name) for name in ("ce", "output", "middle")}
    if not any(weights.values()):
        raise UserError("--ce, --output and --middle are all 0: give one of them a weight")
    own = arguments.settings(options.set)
    objective = _settled(lambda: objective_config.ObjectiveConfig(**weights, **chosen, settings=own))
    rows = arguments.rows(options.rows, "rows to distil on", '{"prompt": ..., "response": ...}')
    if options.device not in ("cpu", "cuda", "cuda:0", "mps"):
        raise UserError(f"--device {options.device}: the trainer takes the first: choose by CUDA_VISIBLE_DEVICES")
    folder = arguments.out_folder(options.out, options.overwrite, [options.student, options.teacher])
    student, tokenizer = _loaded(options.student, options, "float32")
    teacher, theirs = _loaded(options.teacher, options)
    with arguments.of_file(options.rows):
        encode(tokenizer, rows, options.longest)
    given = TrainingArguments(
        str(folder), max_steps=options.steps, per_device_train_batch_size=options.batch, learning_rate=options.rate,
        seed=options.seed, use_cpu=options.device == "cpu", disable_tqdm=not progress.enabled(), report_to=[],
        save_strategy="no", logging_steps=max(1, options.steps // 10),
    )  # fmt: skip
    note(f"distilling on {len(rows)} rows: {options.steps} steps")
    trainer = _settled(
        lambda: DistillationTrainer(
            student, teacher, tokenizer, rows, objective, given, teacher_tokenizer=theirs, cache=options.cache,
            longest=options.longest,
        )
    )  # fmt: skip
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    trainer.save_model(str(folder))
    log = [{name: finite(value) for name, value in one.items()} for one in trainer.state.log_history if "loss" in one]
    document = {
        "student": options.student,
        "teacher": options.teacher,
        "rows": len(rows),
        "steps": options.steps,
        "seconds": round(seconds, 3),
        "log": log,
        "out": str(folder),
    }
    told = f"{options.steps} steps on {len(rows)} rows in {seconds:.1f} s, saved in {paths.relative(folder)}"
    columns = [name for name in ("step", "loss", "ce_loss", "output_loss", "middle_loss") if log and name in log[-1]]
    return Told(document, f"{told}\n{table([{name: one.get(name) for name in columns} for one in log])}")


def distances(options: argparse.Namespace) -> Told:
    """Tell how far a model's answers are from the targets of facts, the weights by it, and which a filter keeps."""
    from lib.api import beacons
    from lib.beacons.distance import RULERS

    RULERS[options.ruler]
    if options.reading and options.keep is None:
        raise UserError("--reading names the filter's: give --keep with it")
    facts = arguments.rows(options.facts, "facts", '{"prompt": ..., "target": ...}')
    with arguments.of_file(options.facts):
        beacons.read_facts(facts)
        if options.keep is not None:
            beacons.count_kept(len(facts), options.keep)
    model, tokenizer = _loaded(options.model, options)
    note(f"asking {len(facts)} facts")
    measured = beacons.measure(model, tokenizer, facts, options.longest, options.ruler)
    rows = measured.frame.to_dict("records")
    for row, weight in zip(rows, beacons.weigh(measured).tolist(), strict=True):
        row["weight"] = weight
    if options.keep is not None:
        kept = set(beacons.keep(measured, options.keep, options.reading or "A"))
        for place, row in enumerate(rows):
            row["kept"] = place in kept
    mean = float(measured.frame["distance"].mean())
    document = {"model": options.model, "ruler": options.ruler, "mean_distance": mean, "facts": rows}
    right = sum(row["right"] for row in rows)
    return Told(document, f"{table(rows)}\nmean distance {mean:.3f}, {right} of {len(rows)} right")


def note(text: str) -> None:
    """Say on standard error what is being done."""
    print(text, file=sys.stderr, flush=True)


def _loaded(
    name: str, options: argparse.Namespace, dtype: str | None = None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    note(f"loading {name}")
    return arguments.model(name, dtype or options.dtype, options.device)


def _settled(call: Callable[[], Any]) -> Any:
    """Call, and tell in one line the value that the library refuses (`ValueError`, which names it)."""
    try:
        return call()
    except DivergedError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"--set {where}: {first['msg']}" if where else first["msg"]) from error
    except ValueError as error:
        raise UserError(str(error)) from error


def _given(told: Sequence[str], path: Any, what: str) -> list[str]:
    """Return texts of the command line, or of a file; `UserError` for both and for neither, and an empty one."""
    if bool(told) == bool(path):
        raise UserError(f"no {what}: give some, or --file" if not told else f"{what} and --file: give one of them")
    if not all(one.strip() for one in told):
        raise UserError(f"one of the {what} is empty: give it some text")
    return list(told) or arguments.lines(path, what)


def _answer(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", prompt: str, longest: int) -> str:
    """Return what a model says after a prompt, greedily; each prompt alone, as a route is one of a prompt."""
    import torch

    from lib.causal_lm.encoding import prompt_tokens

    ids = torch.tensor([prompt_tokens(tokenizer, prompt)], device=model.device)
    if not ids.numel():
        raise UserError(f"{strict_json.clip(prompt)!r}: the tokenizer makes no token of it: give another prompt")
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    with torch.inference_mode():
        said = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=longest, pad_token_id=pad
        )
    return tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True)
