"""InfoDiffusion: a sentence noised word by word under its schedule, and the network that is given its own estimate."""

import math

from lib.reporting.drawings.sheet import BLUE, Sheet, key

WORDS = {"the": 2.8, "wolf": 9.6, "sees": 7.4, "a": 3.7, "star": 8.5}  # H(w) in nats, made up
LAMBDA = 0.5  # the paper's
TIMES = {"$t = 0$": 0.0, "$t = T/4$": 0.25, "$t = T/2$": 0.5, "$t = 3T/4$": 0.75, "$t = T$": 1.0}


def informations() -> list[float]:
    """Return e(w) of the words drawn: H centred and scaled in the sentence."""
    mean = sum(WORDS.values()) / len(WORDS)
    return [(nats - mean) / (max(WORDS.values()) - min(WORDS.values())) for nats in WORDS.values()]


def kept(fraction: float) -> list[float]:
    """Return abar of the words drawn at t/T, the share of their signal that is left."""
    return [1 - fraction + LAMBDA * math.sin(math.pi * fraction) * e for e in informations()]


def draw() -> Sheet:
    """Return the drawing: the schedule as a table of words and times above, one call of the network below."""
    sheet = Sheet(80, 68)
    _schedule(sheet)
    _network(sheet)
    return sheet


def _schedule(sheet: Sheet) -> None:
    sheet.note((1.5, 66), "The schedule: informative words keep their signal longer", weight="bold")
    columns = [25 + 9.5 * number for number in range(len(WORDS))]
    sheet.note((18.5, 61.8), "word", ha="right")
    sheet.note((18.5, 58.6), "information $e(w)$", ha="right")
    for x, word, e in zip(columns, WORDS, informations(), strict=True):
        sheet.note((x, 61.8), word, weight="bold", ha="center")
        sheet.note((x, 58.6), f"{e:+.2f}", 9, ha="center")
    for row, (name, fraction) in enumerate(TIMES.items()):
        y = 54.4 - 4.4 * row
        sheet.note((18.5, y), name, ha="right")
        for x, share in zip(columns, kept(fraction), strict=True):
            sheet.cell((x, y), (9.5, 4.4), f"{abs(share):.2f}", share)
    sheet.arrow((69.6, 56.6), (69.6, 34.6))
    sheet.note((73, 52), "noising:\ntraining", 9)
    sheet.arrow((71.6, 34.6), (71.6, 56.6), strong=True)
    sheet.note((73, 39), "denoising:\nwriting", 9, color=BLUE)
    formula = r"$\bar\alpha(t, w) = 1 - t/T + \lambda\,\sin(\pi t/T)\; e(w)$"
    sheet.note((40, 31.2), formula + "      dark: signal, white: noise", ha="center")


def _network(sheet: Sheet) -> None:
    sheet.note((1.5, 26.6), "The network, at every step: self-conditioning", weight="bold")
    sheet.box((10.5, 20.8), (18, 5), "source words, clean")
    sheet.box((10.5, 13.4), (18, 5), "noised target $x_t$")
    sheet.box((10.5, 6), (18, 5), "previous estimate,\nor zeros")
    sheet.box((37, 13.4), (16, 9), "denoiser\n(transformer)", "trained")
    sheet.box((58.5, 13.4), (14, 5), r"estimate $\hat x_0$")
    sheet.box((74, 13.4), (10, 5), "nearest\nwords")
    sheet.arrow((19.5, 20.8), (23, 20.8), (23, 15.6), (29, 15.6))
    sheet.arrow((19.5, 13.4), (29, 13.4))
    sheet.arrow((19.5, 6), (23, 6), (23, 11.2), (29, 11.2))
    sheet.arrow((45, 13.4), (51.5, 13.4))
    sheet.arrow((65.5, 13.4), (69, 13.4))
    sheet.arrow((58.5, 10.9), (58.5, 2.2), (10.5, 2.2), (10.5, 3.5), dashed=True)
    sheet.note((22, 4.6), "fed back at the next step, without gradient", 9)
    key(sheet, (51, 22.5), [("trained", "trained")], 14)
