"""LEMoE at one layer, after the idea of its Figure 4: what each batch of edits adds, and how a prompt finds it."""

from lib.reporting.drawings.sheet import Look, Sheet, key

SCORES = (0.1, 0.9, 0.3)  # made up: k.v of the three keys drawn
COLUMNS = (36.0, 50.0, 71.0)
KEYS, EXPERTS, LINE = 36.0, 22.0, 5.0


def draw() -> Sheet:
    """Return the drawing: prompt to anchor to key above, the layer with its experts below."""
    sheet = Sheet(80, 57)
    sheet.note((1.5, 55), "Routing, once a prompt", weight="bold")
    sheet.box((13, 50.3), (23, 4.6), "The currency of Japan is")
    sheet.box((13, 43.2), (23, 5.4), "anchor $e$: mean of the\nprompt's embeddings", "frozen")
    sheet.box((13, KEYS), (23, 4.6), r"$v = W_{up}\,\mathrm{SiLU}(W_{down}\,e)$", "trained")
    sheet.arrow((13, 48), (13, 45.9))
    sheet.arrow((13, 40.5), (13, 38.3))
    sheet.arrow((24.5, KEYS), (28.5, KEYS), strong=True)
    _experts(sheet)
    _layer(sheet)
    key(sheet, (30, 55), [("frozen", "frozen"), ("trained", "trained with batch $t$")], 14)
    return sheet


def _experts(sheet: Sheet) -> None:
    """Draw a column for each batch: its key, its score, its expert."""
    sheet.frame((28.5, 32.6), (78.5, 39.4))
    names = ("1", "2", "t")
    for x, name, score in zip(COLUMNS, names, SCORES, strict=True):
        look: Look = "trained" if name == "t" else "frozen"
        sheet.note((x, 42.3), f"batch {name}" if name != "t" else "batch $t$, now", weight="bold", ha="center")
        sheet.box((x, KEYS), (11, 4.2), f"key $k_{name}$", look)
        sheet.box((x, EXPERTS), (11, 5), f"expert $f_{name}$", look)
        if score < max(SCORES):
            sheet.note((x, 29.3), f"{score}", ha="center")
    for y in (KEYS, EXPERTS, 42.3):
        sheet.note((60.5, y), "...", 12, ha="center")
    sheet.note((53.6, 46.6), "Every batch of edits adds one key and one expert.", 9, ha="center")
    sheet.note((28.5, 29.3), "$k_i \\cdot v$ =", ha="left")
    sheet.arrow((COLUMNS[1], KEYS - 2.1), (COLUMNS[1], EXPERTS + 2.5), strong=True)
    sheet.note((COLUMNS[1] + 1.5, 29.3), f"{max(SCORES)}, the largest", weight="bold")


def _layer(sheet: Sheet) -> None:
    """Draw the path of a hidden state through the old layer and the chosen expert."""
    chosen = COLUMNS[1]
    sheet.note((1.5, 24), "The layer, for every token", weight="bold")
    sheet.box((9, LINE), (15, 5), "hidden state $x$")
    sheet.box((33, LINE), (20, 5), "feed-forward layer $W_0$", "frozen")
    sheet.circle((chosen, LINE), 1.7, "+")
    sheet.box((68, LINE), (21, 5), "$h(x) = W_0(x) + f_2(x)$")
    sheet.arrow((16.5, LINE), (23, LINE))
    sheet.arrow((43, LINE), (chosen - 1.7, LINE))
    sheet.arrow((chosen + 1.7, LINE), (57.5, LINE))
    gap = (COLUMNS[0] + chosen) / 2
    sheet.arrow((19.7, LINE), (19.7, 13.5), (gap, 13.5), (gap, EXPERTS), (chosen - 5.5, EXPERTS), strong=True)
    sheet.arrow((chosen, EXPERTS - 2.5), (chosen, LINE + 1.7), strong=True)
    sheet.note((52, 13.5), "Only the chosen expert is computed.", 9)
