"""The stamp of a case: what its record is current for."""

from collections.abc import Iterator, Mapping
from typing import Any

from lib.causal_lm import backbones
from lib.records.case import Case
from lib.records.files import outputs_digest
from lib.sources import CARRIERS
from lib.sources import identity as wheel
from lib.statements.reach import Reach, digest, entry_of, plain, reach


def stamp(case: Case) -> dict[str, Any]:
    """Return what a record of the case is current for, besides its config, seed and threads.

    `code` is the digest of all statements that it reaches; `data` those of what it reads: its own data, fetched
    packages, the backbone that its config names, and what its inputs' records hold.
    """
    code, reached = reach(entry_of(case.compute), case.config)
    data = dict(case.data)
    data |= {f"fetched/{name}": found for name, found in fetched(reached).items()}
    data |= {f"backbone/{name}": backbones.identity(name) for name in sorted(set(_backbones(plain(case.config))))}
    data |= {f"input/{name}": outputs_digest(one.path) for name, one in case.inputs.items()}
    return {"code": code, "data": data}


def identity(case: Case, other: dict[str, Any] | None = None) -> str:
    """Return the digest under which the cache keeps what belongs to a case as it is now, or under another stamp."""
    settings = case.config.model_dump(mode="json", exclude_defaults=True)
    return digest([settings, case.seed, case.threads, other or stamp(case)])


def fetched(found: Reach) -> dict[str, str]:
    """Return what reached code takes of the fetched packages: {carrier: SHA-256 of its wheel}."""
    return {name: wheel(name) for name in CARRIERS if name in found.strings}


def _backbones(content: Any) -> Iterator[str]:
    """Names of pretrained models in the JSON of a config."""
    match content:
        case backbones.SMOLLM2:
            yield content
        case Mapping():
            for key, value in content.items():
                if key == "backbone" and isinstance(value, str):
                    yield value
                else:
                    yield from _backbones(value)
        case list():
            for value in content:
                yield from _backbones(value)
