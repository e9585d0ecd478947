"""How a hostile input is judged: refused in one line that says what it must, and nothing else."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from lib.errors import UserError

LONGEST = 700  # characters of a message


class Input(NamedTuple):
    """One hostile input: its name, what is done with it, and what the message must hold (alternatives by `|`)."""

    name: str
    act: Callable[[], object]
    said: tuple[str, ...]


def judged(one: Input) -> str:
    """Return what is wrong with how an input is met, empty where it is refused as it must be."""
    try:
        answer = one.act()
    except UserError as error:
        message = str(error)
    except Exception as error:
        return f"{one.name}: a traceback, {type(error).__name__}: {str(error)[:200]}"
    else:
        return f"{one.name}: a silent wrong answer, {str(answer)[:200]}"
    missing = [part for part in one.said if not any(word in message for word in part.split("|"))]
    if missing or not message.isprintable() or len(message) > LONGEST:
        return f"{one.name}: {missing} not in {message[:300]!r}, or not one readable line"
    return ""


def all_refused(inputs: Iterable[Input]) -> int:
    """Assert that every input raises a `UserError` of one line that says what it must; return how many there are."""
    met = [judged(one) for one in inputs]
    wrong = [fault for fault in met if fault]
    assert not wrong, f"{len(wrong)} of {len(met)} inputs:\n" + "\n".join(wrong[:40])
    return len(met)
