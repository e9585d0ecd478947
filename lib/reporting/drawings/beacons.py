"""Semantic are Beacons: the distance of an answer to its target, and the two things that are done with it."""

import math
from typing import Any

import numpy as np

from lib.reporting.drawings.sheet import BLUE, INK, RUST, Sheet, key

# Made up: the distances of twelve facts, the weights of the variance in filter A, the shape of the re-weighting.
DISTANCES = (0.06, 0.12, 0.2, 0.27, 0.33, 0.41, 0.5, 0.56, 0.63, 0.72, 0.85, 0.94)
KEPT = 6
SPREADS = {"small": 0.2, "large": 20.0}
NEAREST = {"small": 6, "large": 3}  # of those kept, how many are the nearest; the others are the farthest
ALPHA, LEAST = 0.5, 0.2
ANSWER, TARGET = 70.0, 18.0  # degrees


def weights() -> list[float]:
    """Return w = max(1 + alpha z, w_min) of the facts drawn, z their distance in standard deviations from the mean."""
    spread = (np.array(DISTANCES) - np.mean(DISTANCES)) / np.std(DISTANCES)
    return [float(weight) for weight in np.maximum(1 + ALPHA * spread, LEAST)]


def is_kept(name: str) -> list[bool]:
    """Return which of the facts, from near to far, filter A keeps at a small or large weight of the variance."""
    far = len(DISTANCES) - (KEPT - NEAREST[name])
    return [place < NEAREST[name] or place >= far for place in range(len(DISTANCES))]


def draw() -> Sheet:
    """Return the drawing: the distance above, filter and weight below."""
    sheet = Sheet(80, 62)
    _distance(sheet)
    _filter(sheet)
    _weight(sheet)
    return sheet


def _distance(sheet: Sheet) -> None:
    sheet.note((1.5, 60), "1  How far is the answer from the target?", weight="bold")
    sheet.box((13, 53.8), (22, 5), "The capital of Peru is")
    sheet.box((13, 45.4), (22, 5), "base model", "frozen")
    sheet.box((13, 37), (22, 5), 'answer: "Bogotá"')
    sheet.box((37, 53.8), (18, 5), 'target: "Lima"')
    sheet.box((37, 37), (18, 7.4), "mean of the\ninput embeddings", "frozen")
    sheet.arrow((13, 51.3), (13, 47.9))
    sheet.arrow((13, 42.9), (13, 39.5))
    sheet.arrow((24, 37), (28, 37))
    sheet.arrow((37, 51.3), (37, 40.7))
    sheet.arrow((46, 37), (51.5, 37))
    key(sheet, (51, 60), [("frozen", "frozen")], 14)
    origin, length = (54.0, 34.0), 19.0
    for angle, colour in ((ANSWER, RUST), (TARGET, BLUE)):
        ray = math.radians(angle)
        end = (origin[0] + length * math.cos(ray), origin[1] + length * math.sin(ray))
        look = {"arrowstyle": "-|>", "color": colour, "lw": 2.2, "mutation_scale": 14}
        sheet.axes.annotate("", xy=end, xytext=origin, arrowprops=look | {"shrinkA": 0, "shrinkB": 0})
    rays = np.radians(np.linspace(TARGET, ANSWER, 40))
    sheet.axes.plot(origin[0] + 8 * np.cos(rays), origin[1] + 8 * np.sin(rays), color=INK, lw=1.1, ls="-", marker="")
    sheet.note((59.5, 54), "emb(answer)", color=RUST, ha="right")
    sheet.note((72.4, 37.2), "emb(target)", color=BLUE, ha="center")
    distance = 1 - math.cos(math.radians(ANSWER - TARGET))
    sheet.note((62.4, 44.6), f"$d = 1 - \\cos$(angle) = {distance:.2f}", ha="left")


def _filter(sheet: Sheet) -> None:
    sheet.note((1.5, 28), "2  Filter: which facts are learnt?", weight="bold")
    low, high = 6.0, 37.0
    for name, y in (("small", 20.0), ("large", 12.0)):
        sheet.note((1.5, y + 3), f"{name} weight $\\lambda$ of the variance", 9)
        sheet.arrow((low - 1.5, y), (high + 1.5, y), head=False)
        places = [(low + (high - low) * d, y) for d in DISTANCES]
        for filled in (True, False):
            chosen = is_kept(name)
            sheet.dots([place for place, keep in zip(places, chosen, strict=True) if keep == filled], filled)
    sheet.note((low, 8.6), "near", 9, ha="center")
    sheet.note((high, 8.6), "far", 9, ha="center")
    sheet.dots([(14.2, 8.6)], True)
    sheet.note((15.5, 8.6), "kept", 9)
    sheet.dots([(22, 8.6)], False)
    sheet.note((23.3, 8.6), "left out", 9)
    sheet.note((21.5, 4), r"smallest  mean$(d) - \lambda\,$Var$(d)$", ha="center")


def _weight(sheet: Sheet) -> None:
    sheet.note((43, 28), "3  Weight: how much does each count?", weight="bold")
    low, high, floor, scale = 48.0, 77.0, 11.0, 6.6
    sheet.arrow((low - 2, floor), (low - 2, 25.5))
    sheet.arrow((low - 2, floor), (high + 2, floor), head=False)
    sheet.note((low - 3, 24), "$w$", ha="right")
    sheet.note((low - 3, floor + scale), "1", 9, ha="right")
    places = [(low + (high - low) * d, floor + scale * w) for d, w in zip(DISTANCES, weights(), strict=True)]
    for (x, top), weight in zip(places, weights(), strict=True):
        sheet.axes.plot([x, x], [floor, top], color=BLUE, lw=1.2 + weight, ls="-", marker="", solid_capstyle="butt")
    sheet.dots(places, True)
    look: dict[str, Any] = {"color": "#8088a0", "lw": 0.9, "ls": (0, (3, 2)), "marker": "", "zorder": 1}
    sheet.axes.plot([low - 2, high + 2], [floor + scale] * 2, **look)
    sheet.note((low, 8.6), "near", 9, ha="center")
    sheet.note((high, 8.6), "far", 9, ha="center")
    sheet.note((62, 4), r"$w = \max(1 + \alpha z,\, w_{min})$, without gradient", ha="center")
