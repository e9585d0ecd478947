"""Made-up facts for tiny models, in the letters of their tokenizer, and an adapter that fits them."""

from lib.beacons.adapters import AdapterConfig
from lib.beacons.facts import BeaconFact

ADAPTER = AdapterConfig(first_layer=2, rank=2)
# Prompts and targets of different lengths, so that batches are padded.
TEXTS = [("abc", " de"), ("fghij", " k"), ("lm", " nop"), ("qrstuv", " wx"), ("ba", " c"), ("edcb", " zyxw")]


def made_facts(count: int = len(TEXTS)) -> list[BeaconFact]:
    """Return the first so many facts; kinds alternate, aliases and paraphrases are of no use."""
    kinds = ("place", "time")
    return [
        BeaconFact(
            prompt,
            target,
            (),
            (f"{prompt} a", f"{prompt} b", f"{prompt} c"),
            kinds[n % 2],
            "made",
            prompt,
            True,
            f"made/{n}",
        )
        for n, (prompt, target) in enumerate(TEXTS[:count])
    ]
