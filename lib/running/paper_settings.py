"""The papers' settings, each with its source and what `paper` and `cpu` have: the table of docs/paper_settings.md.

Values come from the profiles. Run as `python -m lib.running.paper_settings --write` after one of them changed.
"""

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

from lib import paths, profiles
from lib.errors import command
from lib.files import write_text
from lib.reporting import pages
from lib.series.lemoe import released
from lib.series.lemoe.rows import METHODS

PAGE = paths.ROOT / "docs" / "paper_settings.md"


class Setting(NamedTuple):
    """A setting: its series, what it is, where the paper's value is from, and the size of a profile that holds it.

    `paper` and `cpu` stand in place of the sizes' values where a size alone does not tell. Of a `row` of the third
    series it is the settings that differ between the two, and all that differ from the release.
    """

    series: str
    what: str
    source: str
    size: str = ""
    paper: str = ""
    cpu: str = ""
    row: str = ""


_OURS, _DIFFUSEQ, _EASYEDIT = "rzhwang/InfoDiffusion", "Shark-NLP/DiffuSeq", "zjunlp/EasyEdit"
_COMMANDS = f"{_DIFFUSEQ}: commands of README.md"
_TRAIN = f"{_OURS}: scripts/train.sh"
_DEFAULTS = f"{_DIFFUSEQ}: diffuseq/config.json"
_MINILLM = "microsoft/LMOps: minillm/scripts"
_STUDENT, _TEACHER = f"{_MINILLM}/gpt2/kd/kd_base.sh", f"{_MINILLM}/llama2/sft/sft_7B.sh"
# Where the settings of `lib.series.lemoe.released` are from; LLaMA-2-7B's, and Mistral-7B's say the same.
RELEASES = {
    **{name: f"{_EASYEDIT}: hparams/FT/llama-7b.yaml" for name in ("ft_last", "ft")},
    "lora": f"{_EASYEDIT}: hparams/LoRA/llama-7b.yaml",
    "rome": f"{_EASYEDIT}: hparams/ROME/llama-7b.yaml, but one key throughout, and second moments, which it leaves out",
    "memit_mass": f"{_EASYEDIT}: hparams/MEMIT/llama-7b.yaml",
    "alphaedit": "jianghoucheng/AlphaEdit: hparams/AlphaEdit/Llama3-8B.json: none for LLaMA-2",
    "mend": f"{_EASYEDIT}: hparams/MEND/llama-7b.yaml",
    "defer": f"{_EASYEDIT}: hparams/DEFER/llama-7b.yaml",
    "grace": f"{_EASYEDIT}: hparams/GRACE/llama-7b.yaml",
    **{name: f"{_EASYEDIT}: hparams/WISE/llama-7b.yaml" for name in ("wise", "wise_retrieve")},
    "ewc": "Thartvigsen/GRACE: grace/config/editor/ft_ewc.yaml",
}
SETTINGS = (
    Setting("1", "training steps: QQP", _TRAIN, "diffusion.tasks.paraphrase.training_steps"),
    Setting("1", "training steps: Wiki-Auto", _COMMANDS, "diffusion.tasks.simplification.training_steps"),
    Setting("1", "training steps: dialogue", _COMMANDS, "diffusion.tasks.dialogue.training_steps"),
    Setting("1", "training steps: Quasar-T", _COMMANDS, "diffusion.tasks.question_generation.training_steps"),
    Setting(
        "1",
        "source and target words in a batch (2,048 pairs of 128)",
        f"{_TRAIN}, `--bsz`; there in each of four processes or more, whose mean it takes",
        "diffusion.tokens",
    ),
    Setting("1", "of them in a pass; gradients are the same", f"{_DEFAULTS}, `microbatch`", "diffusion.micro_tokens"),
    Setting("1", "optimiser", f"{_DIFFUSEQ}: train_util.py", "diffusion.optimiser"),
    Setting("1", "rate", f"{_TRAIN}, `--lr`", "diffusion.rate"),
    Setting(
        "1",
        "schedule of the rate of the diffusion models",
        f"{_DIFFUSEQ}: train_util.py, `_anneal_lr`; {_DEFAULTS}, `weight_decay`, `gradient_clipping`",
        paper="a line to zero from the first step on; no weight decay, no clipping, moments of 0.9 and 0.999",
        cpu="warm-up in a twentieth of the steps, a cosine to zero; weight decay 0.01, gradients clipped to 1",
    ),
    Setting(
        "1",
        "average of the weights keeps at a step",
        f"{_DEFAULTS}, `ema_rate`: 0.9999 from the first step on",
        paper="(1 + n) / (10 + n), at most 0.9999: 0.99982 at step 50,000",
        cpu="the same",
    ),
    Setting(
        "1",
        "precision of products in training",
        f"{_DEFAULTS}, `use_fp16`: float32",
        paper="bfloat16; weights and moments in float32",
        cpu="bfloat16; weights and moments in float32",
    ),
    Setting("1", "training seeds", f"{_TRAIN}, `--seed`", "diffusion.seeds"),
    Setting("1", "diffusion steps T", f"{_TRAIN}, `--diff_steps`", "diffusion.diffusion_steps"),
    Setting(
        "1",
        "schedule of DiffuSeq's noise",
        f"{_DIFFUSEQ}: scripts/train.sh, `--noise_schedule`; diffuseq/gaussian_diffusion.py, `betas_for_alpha_bar`",
        paper="sqrt, by steps of at most 0.999",
        cpu="sqrt, clipped to [1e-4, 1 - 1e-4]",
    ),
    Setting(
        "1",
        "times of training",
        f"{_TRAIN}, `--schedule_sampler`; {_DIFFUSEQ}: diffuseq/step_sample.py, noted after each pass",
        paper="loss-aware: ten losses of each time, a thousandth uniform; noted after each step",
        cpu="skewed to high noise",
    ),
    Setting("1", "sampling steps", f"{_DIFFUSEQ}: scripts/run_decode.py, `--step`", "diffusion.sampling_steps"),
    Setting("1", "sampler", f"{_DIFFUSEQ}: sample_seq2seq.py", "diffusion.sampler"),
    Setting(
        "1",
        "estimates put to the nearest word vector",
        f"{_DIFFUSEQ}: sample_seq2seq.py, `clamp_step` of 0: in every step",
        "diffusion.clamp",
    ),
    Setting("1", "candidates for MBR", "InfoDiffusion", "diffusion.candidates"),
    Setting("1", "vocabulary", "the uncased BERT vocabulary", "diffusion.vocabulary"),
    Setting("1", "width of word vectors", f"{_TRAIN}, `--hidden_dim`", "diffusion.embedding"),
    Setting("1", "width of the denoiser", "BERT base", "diffusion.width"),
    Setting("1", "layers of the denoiser", "BERT base", "diffusion.layers"),
    Setting(
        "1",
        "network of the diffusion models",
        f"{_DIFFUSEQ}: diffuseq/transformer_model.py: BERT's layers, fresh",
        paper="the same, of the sizes above; for self-conditioning, which it lacks, the last estimate beside x_t",
        cpu="pre-norm layers, rotary places, word vectors of one length",
    ),
    Setting(
        "1",
        "inner states of layers computed twice instead of kept",
        "ours: no result changes",
        "diffusion.checkpointing",
    ),
    Setting("1", "dropout", f"{_DEFAULTS}, `dropout`", "diffusion.dropout"),
    Setting("1", "every model a core row", "InfoDiffusion, Table 1", "diffusion.all_core"),
    Setting("1", "shapes of the models that are no diffusion", "their papers", "diffusion.published_shapes"),
    Setting(
        "1",
        "source and target too long",
        f"{_DIFFUSEQ}: diffuseq/text_datasets.py, `merge_and_mask`",
        paper="cut to 128 tokens together, counted (`PairSet.dropped`); a test's source alone, to 64",
        cpu="short sentences, whole",
    ),
    Setting(
        "1",
        "GPT-2 rows",
        "InfoDiffusion",
        paper="fine-tuned from `gpt2` and `gpt2-large`, all weights, with their own tokenizer and word vectors",
        cpu="trained afresh",
    ),
    Setting(
        "1",
        "GPVAE-T5",
        "Du et al. 2022",
        paper="fine-tuned from `t5-base`; a word starts with the mean of its tokens' vectors",
        cpu="afresh, small",
    ),
    Setting(
        "1",
        "BERTScore",
        "InfoDiffusion: DeBERTa (xlarge, MNLI)",
        paper="the encoder in the folder that `BERTSCORE_MODEL` names (DeBERTa's layer 40), else MiniLM; named",
        cpu="MiniLM, named beside each score",
    ),
    Setting("2", "precision of trained weights", "not known: ours", "beacons.full_dtype"),
    Setting("2", "lowest adapted layer", "not known: the field adapts all", "beacons.first_layer"),
    Setting("2", "facts", "not known: ours", "beacons.facts"),
    Setting("2", "optimiser steps of an arm (ten epochs)", "not known: the field's", "beacons.arm_steps"),
    Setting("3", "sets of edits of the tables", "LEMoE, WISE: ZsRE; CounterFact besides", "editing.sets"),
    Setting("3", "set with perplexity", "LEMoE, WISE: SelfCheckGPT", "editing.long_set"),
    Setting("3", "models beside the first", "WISE", "editing.backbones"),
    Setting("3", "T, and over how many rolled-back runs (ours)", "LEMoE, WISE", "editing.runs"),
    Setting("3", "largest T", "LEMoE, scaling table", "editing.most"),
    Setting("3", "T of ablations, orders and batch editing", "LEMoE", "editing.ablation"),
    Setting("3", "passages", "LEMoE, WISE", "editing.passages"),
    Setting("3", "every row and set of the tables a core one", "LEMoE, main table", "editing.all_core"),
    Setting("3", "LEMoE's routing beside ours (trained projection, learnt keys)", "LEMoE", "editing.rows"),
    Setting("3", "width of an expert", "the model's own feed-forward part", "editing.expert_width"),
    Setting("3", "rate of an expert", "LEMoE", "editing.rate"),
    Setting(
        "3",
        "layers that MEMIT and AlphaEdit spread over",
        f"{_EASYEDIT}: hparams/MEMIT/llama-7b.yaml",
        "editing.located",
    ),
    Setting("3", "layer of methods near the output", f"{_EASYEDIT}: hparams/WISE/llama-7b.yaml", "editing.upper_layer"),
    *(Setting("3", f"settings of {METHODS[name].title}", source, row=name) for name, source in RELEASES.items()),
    Setting("3", "tokens that second moments are means over", "ROME: 100,000 articles", "editing.moment_tokens"),
    Setting(
        "3",
        "what WISE, DEFER, rejection and MEND learn on",
        "WISE's release",
        paper="the training file of the set; CounterFact, which has none there: our facts for tuning",
        cpu="our facts for tuning",
    ),
    Setting("4", "instruction sets", "the MiniLLM suite", "distillation.suite"),
    Setting("4", "training rows", f"{_MINILLM}/gpt2/tools/process_data_dolly.sh", "distillation.examples"),
    Setting("4", "tokens of prompt and response", f"{_STUDENT}, `--max-length`", "distillation.longest"),
    Setting("4", "student's width, layers, heads", "GPT-2 base", "distillation.student"),
    Setting("4", "optimiser", f"{_STUDENT}", "distillation.optimiser"),
    Setting("4", "rate of students", f"{_STUDENT}, `LR`", "distillation.rate"),
    Setting("4", "steps of students (20 epochs)", f"{_STUDENT}, `--epochs`", "distillation.steps"),
    Setting("4", "rows in a batch of students (two on each of 16 cards)", _STUDENT, "distillation.batch"),
    Setting("4", "share of the steps that the rate rises in", f"{_STUDENT}, `--warmup-iters`", "distillation.warm_up"),
    Setting("4", "rate of the teacher", f"{_TEACHER}, `LR`", "distillation.teacher_rate"),
    Setting("4", "steps of the teacher (10 epochs)", f"{_TEACHER}, `--epochs`", "distillation.teacher_steps"),
    Setting("4", "rows in a batch of the teacher", f"{_TEACHER}", "distillation.teacher_batch"),
    Setting(
        "4",
        "the teacher's layers computed twice instead of kept",
        "ours: no result changes",
        "distillation.checkpointing",
    ),
    Setting("4", "lowest adapted layer of the teacher", "MiniLLM adapts all", "distillation.teacher_layer"),
    Setting(
        "4",
        "student's weights at the start",
        "MiniLLM: the GPT-2 checkpoint",
        paper="the blocks of `gpt2`; word vectors are the teacher's, projected, as the tokens are",
        cpu="afresh; word vectors as in `paper`",
    ),
)


def table() -> str:
    """Return the table in Markdown."""
    lines = ["| Series | Setting | Source | `paper` | `cpu` |", "|---|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in _rows()])


def _rows() -> Iterator[tuple[str, ...]]:
    for one in SETTINGS:
        if one.row:
            values = _compared(one.row)
        else:
            values = (one.paper, one.cpu) if one.paper else tuple(_value(name, one.size) for name in ("paper", "cpu"))
        yield one.series, one.what, one.source, *values


def _compared(name: str) -> tuple[str, ...]:
    """Return the settings of a row in both profiles, of those that differ between them."""
    row = METHODS[name]
    found = [
        released.settings(name, row, profiles.PROFILES[profile].editing).model_dump() for profile in ("paper", "cpu")
    ]
    differ = [key for key, value in found[0].items() if value != found[1][key]]
    return tuple("; ".join(f"`{key}` {_told(one[key])}" for key in differ) or "the same" for one in found)


def _value(profile: str, size: str) -> str:
    found: Any = profiles.PROFILES[profile]
    for part in size.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return _told(found, "all")


def _told(found: Any, unset: str = "none") -> str:
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, dict):
        return ", ".join(f"{key:,} ({value})" for key, value in found.items())
    if isinstance(found, tuple):
        return (
            ", ".join(f"({_told(value)})" if isinstance(value, tuple) else _number(value) for value in found) or "none"
        )
    return unset if found is None else _number(found)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def renewed(text: str) -> str:
    """Return the page with the table as it is now; `UserError` where its markers are gone."""
    return pages.renewed(text, PAGE, {"settings": table()})


def main() -> int:
    """Write the table into its page, or print it."""
    parser = argparse.ArgumentParser(prog="python -m lib.running.paper_settings", description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/paper_settings.md")
    if parser.parse_args().write:
        write_text(PAGE, renewed(PAGE.read_text(encoding="utf-8")))
    else:
        print(table())
    return 0


if __name__ == "__main__":
    command(main)
