"""An instruction, and the prompt that models read of it; stands on nothing, so that a method may."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Instruction:
    """One instruction: `references` are all right answers (`output` among them), `identity` is its own in its set."""

    instruction: str
    input: str
    output: str
    name: str  # of the set
    identity: str
    references: tuple[str, ...]


def render(item: Instruction) -> str:
    """Return the prompt: instruction, input where there is one, and "Response:"; a blank and the answer follow.

    Alpaca's layout without its preamble and rules (our choice): with them the frame would be the longest part.
    """
    given = f"\nInput: {item.input}" if item.input else ""
    return f"Instruction: {item.instruction}{given}\nResponse:"
