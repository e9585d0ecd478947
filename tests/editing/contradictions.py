"""What tests of edit sets share: how many of their edits are at odds with another."""

from collections import defaultdict
from collections.abc import Sequence

from lib.causal_lm.edits import Edit


def contradictions(edits: Sequence[Edit]) -> tuple[int, int]:
    """Return how many edits have the fact of an edit to another target, and how many rephrases the prompt of one."""
    by_prompt: dict[str, set[str]] = defaultdict(set)
    by_fact: dict[tuple[str | None, str], set[str]] = defaultdict(set)
    for edit in edits:
        by_prompt[edit.prompt].add(edit.target)
        by_fact[edit.subject, edit.relation].add(edit.target)
    facts = sum(len(by_prompt[edit.prompt]) > 1 or len(by_fact[edit.subject, edit.relation]) > 1 for edit in edits)
    return facts, sum(bool(by_prompt.get(text, set()) - {edit.target}) for edit in edits for text in edit.rephrases)
