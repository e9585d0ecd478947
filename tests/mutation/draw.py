"""Draw mutants of the losses, routers, metrics and verdicts, by an interpreter that has cosmic-ray (`make mutants`).

A mutant changes one place: an operator, a comparison, a number, a truth value, a loop, a decorator. The places are
drawn by a committed seed, then one change for each. Annotations are no places, nor are decorators that change no value.
"""

import ast
import json
import random
import sys
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[2]
SEED, COUNT = 20261129, 400
# These two need settings of their own; to do nothing is no mutation.
LEFT_OUT = ("core/VariableInserter", "core/VariableReplacer", "core/NoOp")
# Without these a function gives the same values.
WITHOUT_VALUE = (
    "no_grad",
    "inference_mode",
    "abstractmethod",
    "overload",
    "cache",
    "lru_cache",
    "cached_property",
    "frozen",
)
Place = tuple[str, tuple[int, int], tuple[int, int]]


def main() -> None:
    """Write the drawn mutants as JSON to the file that the command line names."""
    places: dict[Place, list[tuple[str, int]]] = {}
    for module in json.loads((ROOT / "tests/mutation/modules.json").read_text(encoding="utf-8")):
        for place, changes in found(module).items():
            places[place] = changes
    random.seed(SEED)
    drawn = []
    for place in random.sample(sorted(places), min(COUNT, len(places))):
        operator, occurrence = random.choice(places[place])
        source = (ROOT / place[0]).read_text(encoding="utf-8")
        mutated = MutationVisitor.mutate_code(source, get_operator(operator)(), occurrence)
        drawn.append({"module": place[0], "operator": operator.removeprefix("core/"), "line": place[1][0]})
        drawn[-1] |= {"before": changed(source, mutated), "after": changed(mutated, source), "source": mutated}
    Path(sys.argv[1]).write_text(json.dumps(drawn), encoding="utf-8")
    print(f"{len(drawn)} mutants drawn from {len(places)} places")


def found(module: str) -> dict[Place, list[tuple[str, int]]]:
    """Return every place of a module that can be changed, with the changes: operator and number of occurrence."""
    source = (ROOT / module).read_text(encoding="utf-8")
    silent, tree = silent_ranges(source), get_ast(source)
    places: dict[Place, list[tuple[str, int]]] = {}
    for name in sorted(operator_names()):
        if name in LEFT_OUT:
            continue
        operator, occurrence = get_operator(name)(), 0
        for node in ast_nodes(tree):
            for start, stop in operator.mutation_positions(node):
                if not any(low <= start and stop <= high for low, high in silent):
                    places.setdefault((module, tuple(start), tuple(stop)), []).append((name, occurrence))
                occurrence += 1
    return places


def silent_ranges(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return from where to where the annotations, the imports for type checking and decorators without value stand."""
    nodes: list[ast.AST] = []
    decorators = []
    for node in ast.walk(ast.parse(source)):
        nodes += [part for part in (getattr(node, "annotation", None), getattr(node, "returns", None)) if part]
        if isinstance(node, ast.keyword) and node.arg == "strict":  # of `zip`: what is checked elsewhere, too
            nodes.append(node.value)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes.append(node)
        for decorator in getattr(node, "decorator_list", []):
            if any(word in ast.unparse(decorator) for word in WITHOUT_VALUE):
                decorators.append(decorator)
    ranges = [((n.lineno, max(n.col_offset - 1, 0)), (n.end_lineno, n.end_col_offset + 1)) for n in nodes]
    # Cosmic-ray's decorator reaches from the @, before its own place, to the start of the next line.
    return ranges + [((n.lineno, n.col_offset - 1), (n.end_lineno + 1, 0)) for n in decorators]


def changed(source: str, other: str) -> str:
    """Return the lines of `source` that `other` has not in the same place, as one line of text."""
    mine, theirs = source.splitlines(), other.splitlines()
    first = next(n for n, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1])
    behind = next(n for n, pair in enumerate(zip(mine[::-1], theirs[::-1], strict=False)) if pair[0] != pair[1])
    lines = mine[first : max(len(mine) - behind, first + (len(mine) >= len(theirs)))]
    return " ".join(line.strip() for line in lines)


if __name__ == "__main__":
    main()
