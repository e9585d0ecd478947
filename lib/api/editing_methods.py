"""The editing methods by name: what each stores, where its settings come from, and how it is built on any model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from lib import registry
from lib.api.editing_bench import Bench, Sizes
from lib.causal_lm.layers import blocks
from lib.editing.alphaedit import AlphaEditConfig, ResumableAlphaEdit
from lib.editing.defer import Defer, DeferConfig
from lib.editing.editor import Editor
from lib.editing.fine_tuning import EwcConfig, EwcFineTuning, FineTuning, FineTuningConfig
from lib.editing.grace import Grace, GraceConfig
from lib.editing.lora import LoraConfig, LoraFineTuning
from lib.editing.memit import Memit, MemitConfig
from lib.editing.mend import Mend
from lib.editing.mend_network import MendConfig
from lib.editing.rome import Rome, RomeConfig
from lib.editing.wise import Wise
from lib.editing.wise_losses import WiseConfig
from lib.errors import UserError
from lib.lemoe.adaptor import AdaptorConfig
from lib.lemoe.conventional import Conventional, ConventionalConfig
from lib.lemoe.editor import LemoeEditor
from lib.lemoe.memoe import Memoe, MemoeConfig
from lib.registry import Registry
from lib.settings import Settings

MOST_EXPERTS = 64  # of LEMoE: one a call of `edit` or `add`
Source = Literal["release", "tuned", "ours"]


Build = Callable[[Bench], Editor]


@dataclass(frozen=True, kw_only=True)
class Method(registry.Row):
    """A method that edits: what it does, what is saved of it, its settings, and how it is built.

    `defaults` are those of its authors' release, our `tuned` ones for small models, or ours where there is no release;
    `sized` is what the model sets of them. `needs` names what it is given besides edits: "texts", "unrelated" or
    "tuning". `alone`: of a batch each edit is learnt by itself.
    """

    about: str
    stores: str
    limits: str
    defaults: Source
    settings: type[Settings]
    named: Callable[..., Settings] | None = None
    sized: Callable[[Sizes], dict[str, Any]]
    build: Build
    needs: tuple[str, ...] = ()
    subject: bool = False  # whether edits must name their subject
    alone: bool = False

    def configure(self, sizes: Sizes, given: dict[str, Any]) -> Settings:
        """Return the settings for a model, with those `given` changed; `UserError` for one that is wrong or unknown."""
        own = {name: value for name, value in self.sized(sizes).items() if name not in given}
        try:
            return (self.named or self.settings)(**own, **given)
        except ValidationError as error:
            raise UserError(f"{self.title}: {first_problem(error, self.settings)}") from error


def first_problem(error: ValidationError, settings: type[Settings]) -> str:
    """Say in one line what is wrong with settings."""
    found = error.errors()[0]
    name = ".".join(map(str, found["loc"]))
    if found["type"] == "extra_forbidden":
        return f"no setting {name!r}; choose of {', '.join(settings.model_fields)}"
    return f"{name + ': ' if name else ''}{found['msg']}"


def plain(editor: Callable[..., Editor]) -> Build:
    """Build an editor of model, tokenizer and configuration."""
    return lambda bench: editor(bench.model, bench.tokenizer, bench.config)


def with_moments(editor: Callable[..., Editor]) -> Build:
    """Build an editor that needs second moments, and prefixes that the model writes itself."""
    return lambda bench: editor(bench.model, bench.tokenizer, bench.config, bench.moments, bench.prefixes)


def wise(bench: Bench) -> Editor:
    """Build WISE."""
    return Wise(bench.model, bench.tokenizer, bench.unrelated, bench.config, bench.prefixes)  # type: ignore[arg-type]


def lemoe(bench: Bench) -> Editor:
    """Build LEMoE; unrelated texts are there where a threshold is set from them."""
    return LemoeEditor(bench.model, bench.tokenizer, bench.config, MOST_EXPERTS, bench.unrelated)


def lemoe_settings(sizes: Sizes) -> dict[str, Any]:
    """Return LEMoE as our tables have it: a frozen projection, mean keys, no gate and no auxiliary loss."""
    chosen = {"projection": "frozen", "keys": "mean", "gate": "one", "auxiliary_weight": 0.0}
    return {**mixture_settings(sizes), **chosen}


def mixture_settings(sizes: Sizes) -> dict[str, Any]:
    """Return what adaptors of experts share."""
    return {"layer": sizes.adaptor, "expert_width": sizes.expert_width, "rate": 3e-3, "steps": 30}


def wise_settings(memories: str) -> Callable[[Sizes], dict[str, Any]]:
    """Return WISE for a model: a shard holds the first batch, and ten edits at least."""
    return lambda sizes: {"layer": sizes.upper, "memories": memories, "shard": max(10, sizes.first)}


WEIGHT = "one changed weight matrix"
FORGETS = "later edits overwrite the same weights, and earlier ones fade"
ROUTED = "a prompt that is unlike the edit's may not be recognised, and an unrelated one may be"
METHODS: Registry[Method] = Registry(
    "method",
    {
        "ft_last": Method(
            title="FT-L (original loss)",
            about="Adam on one down projection, each weight held near its start; the last prompt token answers.",
            stores=WEIGHT,
            limits=f"targets of several tokens are hardly learnt; {FORGETS}",
            defaults="release",
            settings=FineTuningConfig,
            sized=lambda sizes: {"layer": sizes.upper},
            build=plain(FineTuning),
        ),
        "ft": Method(
            title="FT-L (teacher forcing)",
            about="Adam on one down projection, each weight held near its start, by the language model's own loss.",
            stores=WEIGHT,
            limits=FORGETS,
            defaults="tuned",
            settings=FineTuningConfig,
            named=FineTuningConfig.tuned,
            sized=lambda sizes: {"layer": sizes.upper},
            build=plain(FineTuning),
        ),
        "ewc": Method(
            title="FT-EWC",
            about="Fine-tuning of one down projection in which change is dear where earlier edits need the weight.",
            stores=f"{WEIGHT}, its last edits",
            limits=FORGETS,
            defaults="release",
            settings=EwcConfig,
            sized=lambda sizes: {"layer": sizes.upper},
            build=plain(EwcFineTuning),
        ),
        "lora": Method(
            title="LoRA",
            about="One low-rank adaptor of the attention, trained further with each batch.",
            stores="A and B of every changed map",
            limits=f"unrelated answers may move; {FORGETS}",
            defaults="tuned",
            settings=LoraConfig,
            named=LoraConfig.tuned,
            sized=lambda sizes: {"modules": sizes.lora_modules},
            build=plain(LoraFineTuning),
        ),
        "rome": Method(
            title="ROME",
            about="The smallest change of one matrix that maps a subject to a new value, fact by fact (as R-ROME).",
            stores=f"{WEIGHT}, the texts of C",
            limits="needs a subject in each edit; some hundred edits in a row wear the model out",
            defaults="release",
            settings=RomeConfig,
            named=RomeConfig.rebuilt,
            sized=lambda sizes: {"layer": sizes.located[-1], "prefixes": ((10, 5),), "steps": 20},
            build=with_moments(Rome),
            needs=("texts",),
            subject=True,
        ),
        "memit": Method(
            title="MEMIT",
            about="Closed form spread over the down projections of a range of layers, one edit after the other.",
            stores="the changed weight matrices, the texts of C",
            limits="needs a subject in each edit; many edits one by one add up to damage, see `memit_mass`",
            defaults="release",
            settings=MemitConfig,
            sized=lambda sizes: {"layers": sizes.located, "steps": 20},
            build=with_moments(Memit),
            needs=("texts",),
            subject=True,
            alone=True,
        ),
        "memit_mass": Method(
            title="MEMIT-MASS",
            about="MEMIT with all edits of a call written at once.",
            stores="the changed weight matrices, the texts of C",
            limits="needs a subject in each edit; best where all edits come in one call",
            defaults="release",
            settings=MemitConfig,
            sized=lambda sizes: {"layers": sizes.located, "steps": 20},
            build=with_moments(Memit),
            needs=("texts",),
            subject=True,
        ),
        "alphaedit": Method(
            title="AlphaEdit",
            about="MEMIT whose change leaves alone what plain text needs, and what earlier edits wrote.",
            stores="the changed weight matrices, keys of the edits, the texts of C",
            limits="needs a subject in each edit; its threshold fits GPT-J's scale",
            defaults="release",
            settings=AlphaEditConfig,
            sized=lambda sizes: {"layers": sizes.located, "steps": 20},
            build=with_moments(ResumableAlphaEdit),
            needs=("texts",),
            subject=True,
        ),
        "mend": Method(
            title="MEND",
            about="One gradient step whose gradient a network transforms; the network is trained first.",
            stores="three changed weight matrices, the network",
            limits="only as good as the edits that its network was trained on",
            defaults="tuned",
            settings=MendConfig,
            named=MendConfig.tuned,
            sized=lambda sizes: {
                "layers": tuple(
                    layer for layer in range(sizes.upper - 1, sizes.upper + 2) if 0 <= layer < len(blocks(sizes.model))
                ),
                "steps": 60,
            },
            build=lambda bench: Mend(bench.model, bench.tokenizer, bench.transformation()),
            needs=("tuning",),
        ),
        "defer": Method(
            title="DEFER",
            about="A gate that opens for edits, and a linear layer that then stands in for one down projection.",
            stores="gate and layer, keys of unrelated texts",
            limits=f"earlier batches can be forgotten; {ROUTED}",
            defaults="tuned",
            settings=DeferConfig,
            named=DeferConfig.tuned,
            sized=lambda sizes: {"layer": sizes.upper},
            build=lambda bench: Defer(bench.model, bench.tokenizer, bench.config, bench.unrelated),
            needs=("unrelated",),
        ),
        "grace": Method(
            title="GRACE",
            about="A codebook at one layer: prompts near an edit's get its value.",
            stores="key, value and radius of each edit",
            limits="rephrases are hardly ever recognised",
            defaults="tuned",
            settings=GraceConfig,
            named=GraceConfig.tuned,
            sized=lambda sizes: {"layer": sizes.upper},
            build=plain(Grace),
        ),
        "wise": Method(
            title="WISE-Merge",
            about="Edits in side memories of one matrix, merged when full; a strong activation calls them.",
            stores="the side memories, unrelated texts",
            limits=ROUTED,
            defaults="tuned",
            settings=WiseConfig,
            named=WiseConfig.tuned,
            sized=wise_settings("merge"),
            build=wise,
            needs=("unrelated",),
        ),
        "wise_retrieve": Method(
            title="WISE-Retrieve",
            about="WISE whose side memories stay apart; the one with the strongest activation serves.",
            stores="the side memories, unrelated texts",
            limits=f"memory grows with every shard; {ROUTED}",
            defaults="tuned",
            settings=WiseConfig,
            named=WiseConfig.tuned,
            sized=wise_settings("retrieve"),
            build=wise,
            needs=("unrelated",),
        ),
        "conventional": Method(
            title="conventional MoE",
            about="An expert for each batch beside one layer, chosen for each token by a router that learns on.",
            stores="experts and router",
            limits="the router forgets which expert serves earlier edits",
            defaults="ours",
            settings=ConventionalConfig,
            sized=mixture_settings,
            build=plain(Conventional),
        ),
        "memoe": Method(
            title="MEMoE",
            about="Four experts beside one layer, chosen for each token by its state and the prompt's entity.",
            stores="experts and router",
            limits="later batches train the same experts, and earlier edits fade; give each edit its subject",
            defaults="ours",
            settings=MemoeConfig,
            sized=mixture_settings,
            build=plain(Memoe),
        ),
        "lemoe": Method(
            title="LEMoE",
            about="A frozen expert for each batch beside one layer, chosen once a sequence by the words of the prompt.",
            stores="experts, keys and projection",
            limits="every prompt gets an expert, unrelated ones too (see `lemoe_threshold`); 64 batches at most",
            defaults="ours",
            settings=AdaptorConfig,
            sized=lemoe_settings,
            build=lemoe,
        ),
        "lemoe_threshold": Method(
            title="LEMoE with a threshold (ours)",
            about="LEMoE without an expert for prompts farther from every edit than unrelated texts are.",
            stores="experts, keys, projection and threshold",
            limits="a rephrase far from its edit may be refused; 64 batches at most",
            defaults="ours",
            settings=AdaptorConfig,
            sized=lambda sizes: {**lemoe_settings(sizes), "rejection": "threshold"},
            build=lemoe,
            needs=("unrelated",),
        ),
    },
)


def table() -> str:
    """Return the methods as a table of plain text: name, title, what it needs and stores, and its defaults."""
    rows = [("method", "title", "defaults", "needs besides edits", "what is saved")]
    for name, method in METHODS.items():
        needs = [*method.needs, *(["subjects"] if method.subject else [])]
        rows.append((name, method.title, method.defaults, ", ".join(needs) or "-", method.stores))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
