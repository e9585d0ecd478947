"""The sets of edits of the series, by the names that configurations say: our own, and the user's files of the field's.

A set is read when it is first asked for; its digest and its size are asked for by the list of cases, and kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lib.causal_lm.edits import Edit
from lib.editing import readers
from lib.facts import factbook
from lib.registry import Registry
from lib.series.lemoe import fact_edits
from lib.sources.own_files import EDIT_FILES


def passage_edits() -> list[Edit]:
    """Return long factual edits in SelfCheckGPT's manner: the first half of a passage is to yield the second.

    The locality question of each is the opening of a passage about another country, with its own continuation.
    """
    halves = [factbook.halves(passage) for passage in factbook.passages("locality")]
    middle = len(halves) // 2
    return [
        Edit(prompt, target, locality=halves[middle + number % (len(halves) - middle)], identity=f"passage/{number}")
        for number, (prompt, target) in enumerate(halves[:middle])
    ]


EDIT_SETS: Registry[Callable[[], Sequence[Edit]]] = Registry(
    "set of edits",
    {
        "facts": lambda: fact_edits.fact_edits(),
        "tuning": lambda: fact_edits.fact_edits("tuning"),
        "hard": lambda: fact_edits.hard_edits(),
        "passages": lambda: passage_edits(),
        "zsre": lambda: readers.read_zsre(EDIT_FILES["zsre"].path()),
        "zsre_train": lambda: readers.read_zsre(EDIT_FILES["zsre_train"].path()),
        "counterfact": lambda: readers.read_counterfact(EDIT_FILES["counterfact"].path()),
        "selfcheckgpt": lambda: readers.read_selfcheckgpt(EDIT_FILES["selfcheckgpt"].path()),
        "selfcheckgpt_train": lambda: readers.read_selfcheckgpt(EDIT_FILES["selfcheckgpt_train"].path()),
    },
)


@dataclass(frozen=True)
class EditSet:
    """Edits in their fixed order."""

    name: str
    edits: tuple[Edit, ...]


@lru_cache(maxsize=8)
def edit_set(name: str) -> EditSet:
    """Return a set of edits; raises `UserError` for an unknown name and for a file of the user's that is absent."""
    return EditSet(name, tuple(EDIT_SETS[name]()))


def digest(name: str) -> str:
    """Return the SHA-256 of a set's edits in their order; raises as `edit_set`."""
    return fact_edits.content_hash(edit_set(name).edits)


def size(name: str) -> str:
    """Return the number of a set's edits, as text, to be kept as a digest is; raises as `edit_set`."""
    return str(len(edit_set(name).edits))


def texts_digest() -> str:
    """Return the SHA-256 of all long text of the series that is not edited: of second moments and unrelated texts."""
    return factbook.content_hash([*factbook.passages("moments"), *factbook.passages("unrelated")])
