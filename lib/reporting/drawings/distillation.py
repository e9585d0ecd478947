"""Distillation between unlike models: which layer of the teacher each layer of the student is compared with."""

from matplotlib.patches import Rectangle

from lib.reporting.drawings.sheet import INK, LOOKS, Sheet, key

STUDENT, TEACHER = 4, 30  # layers, as in 4.1
LOW, HIGH = 14.0, 50.0  # where a stack begins and ends
LEFT, RIGHT = 14.0, 66.0  # the middles of the stacks


def mapped(layer: int) -> int:
    """Return g(l) = floor(l M / N + 1/2) of the stacks drawn."""
    return (2 * layer * TEACHER + STUDENT) // (2 * STUDENT)


def draw() -> Sheet:
    """Return the drawing: both stacks over the same text, the middle losses between them, the output losses above."""
    sheet = Sheet(80, 70)
    sheet.box((40, 3.6), (40, 4.4), "the same text: instruction and response")
    for x, depth, name, look in ((LEFT, STUDENT, "student", "trained"), (RIGHT, TEACHER, "teacher", "frozen")):
        sheet.note((x, 11.6), f"{name}, {depth} layers", weight="bold", ha="center")
        sheet.arrow((20 if x == LEFT else 60, 3.6), (x, 3.6), (x, 10))
        height = (HIGH - LOW) / depth
        for layer in range(1, depth + 1):
            compared = depth == STUDENT or layer in map(mapped, range(1, STUDENT + 1))
            colours = LOOKS[look] | ({"facecolor": "#8fa6cf", "linestyle": "-"} if compared and x == RIGHT else {})
            low = (x - 8, LOW + (layer - 1) * height + 0.1)
            sheet.axes.add_patch(Rectangle(low, 16, height - 0.2, zorder=2, **(colours | {"linewidth": 0.9})))
    _middle(sheet)
    _outputs(sheet)
    return sheet


def _top(layer: int, depth: int) -> float:
    """Return the height at which the state that a layer gives is drawn."""
    return LOW + layer * (HIGH - LOW) / depth - 0.6


def _middle(sheet: Sheet) -> None:
    for layer in range(1, STUDENT + 1):
        ours, its = _top(layer, STUDENT), _top(mapped(layer), TEACHER)
        sheet.note((LEFT, ours - 4), f"layer {layer}", 9, ha="center")
        sheet.note((RIGHT + 9, its), f"{mapped(layer)}", 9, weight="bold", color=INK)
        sheet.box((30, ours), (6, 3.6), f"$A_{layer}$", "trained")
        sheet.arrow((LEFT + 8, ours), (27, ours))
        sheet.arrow((33, ours), (36, ours))
        sheet.box((43, ours), (14, 3.6), "middle loss", "loss")
        sheet.arrow((RIGHT - 8, its), (50, its))
    sheet.note((40, 17.6), r"$g(l) = \lfloor\, l\,M/N + 1/2\,\rfloor$", ha="center")


def _outputs(sheet: Sheet) -> None:
    sheet.box((LEFT, 57), (20, 4.4), "its next token")
    sheet.box((RIGHT, 57), (20, 4.4), "its next token")
    sheet.arrow((LEFT, HIGH), (LEFT, 54.8))
    sheet.arrow((RIGHT, HIGH), (RIGHT, 54.8))
    sheet.box((40, 57), (22, 4.4), "output loss: divergence", "loss")
    sheet.arrow((24, 57), (29, 57))
    sheet.arrow((56, 57), (51, 57))
    sheet.box((LEFT, 64.5), (25, 4.4), "cross-entropy with the text", "loss")
    sheet.arrow((LEFT, 59.2), (LEFT, 62.3))
    formula = r"$L = a\,L_{text} + b\,L_{output} + c\,L_{middle}$"
    sheet.note((50, 64.5), formula, 10.5, ha="center")
    key(sheet, (21.5, 8), [("trained", "trained"), ("frozen", "frozen"), ("loss", "loss")], 13.5)
