"""The rows of the comparison in one registry: main table, ablations of our method, students with other tokenizers."""

from dataclasses import dataclass, field
from typing import Any

from lib.registry import Registry, Row


@dataclass(frozen=True, kw_only=True)
class Method(Row):
    """A row: its objective, and what else it changes in the configuration of a run.

    `objective` and `student` are changes to the defaults; weights of 1 stand for the profile's proportions. Rows that
    are not `core` are computed on request; `every_seed`: all of the profile's, or the first.
    """

    objective: dict[str, Any] = field(default_factory=dict)
    student: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    every_seed: bool = False
    group: str = ""


def _output(title: str, divergence: str, core: bool = True, **more: Any) -> Method:
    return Method(title=title, objective={"output": 1.0, "divergence": divergence}, core=core, **more)


# Every row but the first two adds to the cross-entropy, at equal steps; so ours minus "output only" is the middle loss.
METHODS: Registry[Method] = Registry(
    "method",
    {
        "sft": Method(title="SFT: cross-entropy alone", core=True, every_seed=True),
        "sequence": Method(title="sequence-level KD", run={"text": "teacher"}, core=True),
        "forward_kl": _output("output only: forward KL", "forward_kl", every_seed=True),
        "reverse_kl": _output("reverse KL", "reverse_kl"),
        "jensen_shannon": _output("Jensen-Shannon", "jensen_shannon"),
        "skewed_kl": _output("skewed KL", "skewed_kl"),
        "skewed_reverse_kl": _output("skewed reverse KL", "skewed_reverse_kl"),
        "adaptive_kl": _output("adaptive KL", "adaptive_kl"),
        "alpha_beta": _output("alpha-beta divergence", "alpha_beta", core=False),
        "gkd": Method(
            title="GKD: on-policy, Jensen-Shannon",
            objective={"output": 1.0, "divergence": "jensen_shannon", "on_policy": 1.0},
            core=True,
        ),
        "middle": Method(title="middle only", objective={"middle": 1.0}, core=True, every_seed=True),
        "ours": Method(
            title="ours: output and middle", objective={"output": 1.0, "middle": 1.0}, core=True, every_seed=True
        ),
    },
)


def _ours(group: str, title: str, core: bool = False, student: dict[str, Any] | None = None, **changes: Any) -> Method:
    """Return our method with something changed."""
    objective = {"output": 1.0, "middle": 1.0, **changes}
    return Method(title=title, objective=objective, student=student or {}, core=core, group=group)


# Our method with one thing changed; controls are core.
ABLATIONS: Registry[Method] = Registry(
    "ablation",
    {
        "rule_cka": _ours("rule", "most similar layers (debiased CKA), in order", rule="cka_monotone"),
        "rule_last": _ours("rule", "the last layers", rule="last_k"),
        "rule_skip": _ours("rule", "a constant stride", rule="skip"),
        "rule_all_to_one": _ours("control", "all to one layer", rule="all_to_one"),
        "rule_reversed": _ours("control", "reversed", core=True, rule="reversed"),
        "rule_random": _ours("control", "random layers", core=True, rule="random"),
        "module_frozen": _ours("control", "frozen random projection", core=True, alignment="frozen"),
        "module_shared": _ours("module", "one linear map for all pairs", alignment="shared"),
        "module_mlp": _ours("module", "a small MLP for each pair", alignment="mlp"),
        "distance_cosine": _ours("distance", "cosine", distance="cosine"),
        "distance_cka": _ours("distance", "1 - debiased CKA, no module", distance="cka", alignment="none"),
        "distance_gram": _ours("distance", "Gram, no module", distance="gram", alignment="none"),
        "proportions_uncertainty": _ours("proportions", "uncertainty weighting", proportions="uncertainty"),
        "proportions_gradnorm": _ours("proportions", "GradNorm", proportions="gradnorm"),
        "proportions_dynamic": _ours("proportions", "dynamic weight averaging", proportions="dynamic"),
        "proportions_linear": _ours("proportions", "middle loss falls to zero", proportions="linear"),
        "weight_tenth": _ours("proportions", "a tenth of the middle loss", middle=0.1),
        "weight_ten": _ours("proportions", "ten times the middle loss", middle=10.0),
        "init_scratch": _ours("student", "embeddings from scratch", student={"init": "scratch"}),
    },
)


def _own(title: str, **objective: Any) -> Method:
    """Return a row whose student has a tokenizer of its own, trained on the data."""
    return Method(title=title, objective=objective, student={"tokenizer": "own", "init": "scratch"})


# Students with another tokenizer than their teacher's, from scratch.
OWN_TOKENIZER: Registry[Method] = Registry(
    "method with its own tokenizer",
    {
        "sft": _own("SFT: cross-entropy alone"),
        "universal_logit": _own("sorted probabilities (universal logit)", output=1.0, pairing="universal_logit"),
        "minimum_edit": _own("nearest tokens (minimum edit distance)", output=1.0, pairing="minimum_edit"),
        "dual_space": _own("dual space, cross-model attention", output=1.0, pairing="dual_space"),
        "ours": _own("nearest tokens and middle loss", output=1.0, middle=1.0, pairing="minimum_edit"),
    },
)
