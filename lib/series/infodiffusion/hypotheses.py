"""The paper's claims as they are judged here: comparisons, gates and training seeds, all fixed before the runs.

Every claim about diffusion has the gate of its task (`gates`). Differences are of shares, so they lie in [-1, 1]; the
margin is 0 everywhere. The training seeds stand in the profile: three, and five for the ablations.
"""

from collections.abc import Sequence
from typing import Literal

from lib.intervals import DIFFERENCE
from lib.reporting.claims import Claim, Comparison
from lib.series.infodiffusion.gates import GATE
from lib.series.infodiffusion.tasks import TASKS
from lib.text import scores

Decoding = Literal["best of ten", "one candidate"]

FEW = (2, 5)  # sampling steps in which the model that arrives sooner should lose less
CONTENT = ("noun", "verb", "adjective", "adverb")
# Claim 5 names these rows: each has as many training seeds as the pair, on the task of `cases.RIVALS_TASK`.
RIVALS = ("gru", "transformer", "gpt2_base", "gpt2_large", "gpvae", "levenshtein")


def quality(task: str, decoding: Decoding) -> Claim:
    """Claim 1 on one task: InfoDiffusion above DiffuSeq in BLEU, ROUGE-L and BERTScore.

    The paper's numbers are those of the best of ten by minimum Bayes risk. One candidate is judged apart: ten reward
    the model whose candidates differ more.
    """
    return Claim(
        id=f"quality_{task}" + ("" if decoding == "best of ten" else "_one"),
        text=f"{TASKS[task].title}, {decoding}: InfoDiffusion beats DiffuSeq in BLEU, ROUGE-L and BERTScore",
        source="InfoDiffusion, Table 1",
        comparisons=tuple(Comparison(scores.NAMES[metric], ">", 0.0, DIFFERENCE) for metric in scores.QUALITY),
        notebook="1_infodiffusion/1.2_keyinfo_first" if task == "paraphrase" else "1_infodiffusion/1.3_table_1",
        gate=GATE,
    )


def quality_wherever(tasks: Sequence[str]) -> Claim:
    """Claim 1 as a whole: on every task whose gate holds, best of ten; on all where none does, and is not testable.

    The gate's number is the margin of the task that comes out best. Comparisons are named by `compared`.
    """
    return Claim(
        id="quality",
        text="InfoDiffusion beats DiffuSeq in BLEU, ROUGE-L and BERTScore on every task that can test it here",
        source="InfoDiffusion, Table 1",
        comparisons=tuple(
            Comparison(compared(task, metric), ">", 0.0, DIFFERENCE) for task in tasks for metric in scores.QUALITY
        ),
        notebook="1_infodiffusion/1.3_table_1",
        gate=GATE,
    )


def compared(task: str, metric: str) -> str:
    """Return the name of a comparison of `quality_wherever`."""
    return f"{TASKS[task].title}: {scores.NAMES[metric]}"


def diversity(rivals: Sequence[str]) -> Claim:
    """Claim 5 on the task whose rivals have three seeds: Diverse-4 of the pair's mean above each rival's (by title).

    Diversity alone says little, since noise is diverse: the curve of BLEU over Diverse-4 stands beside it.
    """
    return Claim(
        id="diversity",
        text="Diffusion models are more diverse (Diverse-4) than the autoregressive and the other non-autoregressive "
        "models",
        source="InfoDiffusion, Table 1",
        comparisons=tuple(Comparison(rival, ">", 0.0, DIFFERENCE) for rival in rivals),
        notebook="1_infodiffusion/1.3_table_1",
        gate=GATE,
    )


ABLATION = {
    "self-conditioning helps": ("full", "no_self_conditioning"),
    "the schedule helps": ("full", "no_schedule"),
    "the schedule helps more": ("no_self_conditioning", "no_schedule"),
}


def ablation() -> Claim:
    """Claim 2: BLEU of the first row of `ABLATION` minus that of the second, over five seeds."""
    return Claim(
        id="ablation",
        text="Self-conditioning and the noise schedule both contribute, the schedule more",
        source="InfoDiffusion, Table 2",
        comparisons=tuple(Comparison(name, ">", 0.0, DIFFERENCE) for name in ABLATION),
        notebook="1_infodiffusion/1.4_ablation",
        gate=GATE,
    )


def information() -> Claim:
    """Whether it is information that helps: BLEU of InfoDiffusion minus with the values dealt to other words."""
    return Claim(
        id="information",
        text="The information of the words helps, not only their unequal noise",
        source="InfoDiffusion, Section 3.2 (the control is ours)",
        comparisons=(Comparison("real minus shuffled information", ">", 0.0, DIFFERENCE),),
        notebook="1_infodiffusion/1.4_ablation",
        gate=GATE,
    )


def order(task: str) -> Claim:
    """Claim 4 on one task: shares of the sampling steps after which words settle, InfoDiffusion minus DiffuSeq."""
    names = [*(f"{kind}s earlier than in DiffuSeq" for kind in CONTENT), "content words before function words"]
    return Claim(
        id=f"order_{task}",
        text=f"{TASKS[task].title}: content words are settled earlier than in DiffuSeq, and before function words",
        source="InfoDiffusion, Figures 1 and 5",
        comparisons=tuple(Comparison(name, "<", 0.0, DIFFERENCE) for name in names),
        notebook="1_infodiffusion/1.5_decoding_order",
        gate=GATE,
    )


def steps(task: str, samplers: Sequence[str]) -> Claim:
    """Claim 3 on one task: what few steps lose against all, InfoDiffusion minus DiffuSeq, by each sampler."""
    names = [f"{sampler}, {few} steps" for sampler in samplers for few in FEW]
    return Claim(
        id=f"steps_{task}",
        text=f"{TASKS[task].title}: InfoDiffusion reaches its plateau in clearly fewer sampling steps than DiffuSeq",
        source="InfoDiffusion, Figure 6",
        comparisons=tuple(Comparison(name, ">", 0.0, (-2.0, 2.0)) for name in names),
        notebook="1_infodiffusion/1.6_sampling_steps",
        gate=GATE,
    )


def every(samplers: Sequence[str], rivals: Sequence[str]) -> list[Claim]:
    """Return all claims of the series, in the order of the notebooks."""
    papers = [name for name, task in TASKS.items() if task.core]
    decodings: tuple[Decoding, ...] = ("best of ten", "one candidate")
    found = [quality(task, decoding) for task in papers for decoding in decodings]
    found += [diversity(rivals), ablation(), information()]
    return found + [claim for task in papers for claim in (order(task), steps(task, samplers))]
