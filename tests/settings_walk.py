"""What all configurations of `lib` allow of their numbers, read from their annotations."""

import importlib
import re
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from lib import paths
from lib.settings import Settings

_CONFIGURATION = re.compile(r"^class \w+\((?:\w+\.)?\w*(?:Settings|Config|Sizes)\b", re.MULTILINE)


class Number(NamedTuple):
    """A number in a field: where it stands in it, its type, and whether it has bounds."""

    place: str
    type: type
    lower: bool
    upper: bool


def configurations() -> list[type[Settings]]:
    """Return every subclass of `Settings` in `lib`, by name."""
    for path in sorted((paths.ROOT / "lib").rglob("*.py")):
        if _CONFIGURATION.search(path.read_text(encoding="utf-8")):
            importlib.import_module(
                ".".join(path.relative_to(paths.ROOT).with_suffix("").parts).removesuffix(".__init__")
            )
    found: dict[str, type[Settings]] = {}
    left: list[type[Settings]] = [Settings]
    while left:
        one = left.pop()
        found |= {f"{one.__module__}.{one.__qualname__}": one}
        left += one.__subclasses__()
    return [found[name] for name in sorted(found) if found[name] is not Settings and name.startswith("lib.")]


def numbers(field: FieldInfo) -> list[Number]:
    """Return the numbers that a field holds, also inside of options, lists, tuples and mappings."""
    return list(_numbers(field.annotation, field.metadata, ""))


def filled(annotation: Any, value: object) -> object:
    """Return what a field of an annotation could hold, with `value` in the place of each number."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return filled(inside[0], value)
    if origin in (typing.Union, types.UnionType):
        return filled(next(one for one in inside if one is not type(None)), value)
    if origin is tuple:
        return tuple(filled(one, value) for one in inside if one is not Ellipsis)
    if isinstance(origin, type) and issubclass(origin, dict):
        return {
            1 if inside[0] in (int, float) or get_origin(inside[0]) is Annotated else "name": filled(inside[1], value)
        }
    return [filled(inside[0], value)] if inside and origin is not Literal else value


def _numbers(annotation: Any, metadata: typing.Sequence[Any], place: str) -> Iterator[Number]:
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _numbers(inside[0], [*metadata, *inside[1:]], place)
    elif origin in (typing.Union, types.UnionType):
        for one in inside:
            yield from _numbers(one, metadata, place)
    elif annotation in (int, float):
        bounds = [one for constraint in metadata for one in getattr(constraint, "metadata", [constraint])]
        lower, upper = (
            any(getattr(bound, name, None) is not None for bound in bounds for name in names)
            for names in (("gt", "ge"), ("lt", "le"))
        )
        yield Number(place, annotation, lower, upper)
    elif origin is not Literal:
        for number, one in enumerate(inside):
            yield from _numbers(one, [], f"{place}[{number}]")
