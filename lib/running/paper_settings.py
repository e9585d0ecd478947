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

PAGE = paths.ROOT / "docs" / "paper_settings.md"


class Setting(NamedTuple):
    """A setting: its series, what it is, where the paper's value is from, and the size of a profile that holds it.

    `paper` and `cpu` stand in place of the sizes' values where a size alone does not tell.
    """

    series: str
    what: str
    source: str
    size: str = ""
    paper: str = ""
    cpu: str = ""


_TRAINING = "DiffuSeq's released commands; InfoDiffusion's code is built on them"
SETTINGS = (
    Setting("1", "training steps: QQP", "InfoDiffusion", "diffusion.tasks.paraphrase.training_steps"),
    Setting("1", "training steps: Wiki-Auto", _TRAINING, "diffusion.tasks.simplification.training_steps"),
    Setting("1", "training steps: dialogue", _TRAINING, "diffusion.tasks.dialogue.training_steps"),
    Setting("1", "training steps: Quasar-T", _TRAINING, "diffusion.tasks.question_generation.training_steps"),
    Setting("1", "source and target words in a batch (2,048 pairs of 128)", _TRAINING, "diffusion.tokens"),
    Setting("1", "of them in a pass; gradients are the same", _TRAINING, "diffusion.micro_tokens"),
    Setting("1", "optimiser", _TRAINING, "diffusion.optimiser"),
    Setting("1", "rate", _TRAINING, "diffusion.rate"),
    Setting(
        "1",
        "schedule of the rate of the diffusion models",
        _TRAINING,
        paper="a line to zero from the first step on; no weight decay, no clipping, moments of 0.9 and 0.999",
        cpu="warm-up in a twentieth of the steps, a cosine to zero; weight decay 0.01, gradients clipped to 1",
    ),
    Setting("1", "training seeds", _TRAINING, "diffusion.seeds"),
    Setting("1", "diffusion steps T", _TRAINING, "diffusion.diffusion_steps"),
    Setting("1", "sampling steps", _TRAINING, "diffusion.sampling_steps"),
    Setting("1", "sampler", _TRAINING, "diffusion.sampler"),
    Setting("1", "candidates for MBR", "InfoDiffusion", "diffusion.candidates"),
    Setting("1", "vocabulary", "the uncased BERT vocabulary", "diffusion.vocabulary"),
    Setting("1", "width of word vectors", _TRAINING, "diffusion.embedding"),
    Setting("1", "width of the denoiser", "BERT base", "diffusion.width"),
    Setting("1", "layers of the denoiser", "BERT base", "diffusion.layers"),
    Setting(
        "1",
        "network of the diffusion models",
        "DiffuSeq's code: BERT's layers, fresh",
        paper="the same, of the sizes above; for self-conditioning, which it lacks, the last estimate beside x_t",
        cpu="pre-norm layers, rotary places, word vectors of one length",
    ),
    Setting(
        "1",
        "inner states of layers computed twice instead of kept",
        "ours: no result changes",
        "diffusion.checkpointing",
    ),
    Setting("1", "dropout", _TRAINING, "diffusion.dropout"),
    Setting("1", "every model a core row", "InfoDiffusion, Table 1", "diffusion.all_core"),
    Setting("1", "shapes of the models that are no diffusion", "their papers", "diffusion.published_shapes"),
    Setting(
        "1",
        "source and target too long",
        "DiffuSeq's code",
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
    Setting("3", "layers that MEMIT and AlphaEdit spread over", "MEMIT's for 32 layers", "editing.located"),
    Setting("3", "layer of methods near the output", "EasyEdit's for LLaMA-2-7B", "editing.upper_layer"),
    Setting(
        "3",
        "what WISE, DEFER, rejection and MEND learn on",
        "WISE's release",
        paper="the training file of the set; CounterFact, which has none there: our facts for tuning",
        cpu="our facts for tuning",
    ),
    Setting("4", "instruction sets", "the MiniLLM suite", "distillation.suite"),
    Setting("4", "training rows", "MiniLLM", "distillation.examples"),
    Setting("4", "tokens of prompt and response", "MiniLLM", "distillation.longest"),
    Setting("4", "student's width, layers, heads", "GPT-2 base", "distillation.student"),
    Setting("4", "optimiser", "MiniLLM", "distillation.optimiser"),
    Setting("4", "rate", "MiniLLM, GPT-2 base", "distillation.rate"),
    Setting("4", "steps", "MiniLLM, GPT-2 base", "distillation.steps"),
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
        values = (one.paper, one.cpu) if one.paper else (_value(name, one.size) for name in ("paper", "cpu"))
        yield one.series, one.what, one.source, *values


def _value(profile: str, size: str) -> str:
    found: Any = profiles.PROFILES[profile]
    for part in size.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, dict):
        return ", ".join(f"{key:,} ({value})" for key, value in found.items())
    if isinstance(found, tuple):
        return ", ".join(map(_number, found)) or "none"
    return _number(found)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "all" if value is None else str(value)


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
