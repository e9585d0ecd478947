"""Pictures of a decoding."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray


def draw(axes: Axes, words: NDArray[np.object_], steps: NDArray[np.int64]) -> None:
    """Draw the estimates (steps, places) as a grid of words, each place darker the earlier its word was settled.

    `steps` (places,) are the settling steps; a word that is not yet settled stands on white.
    """
    settled = np.arange(1, len(words) + 1)[:, None] >= steps
    shade = np.where(settled, 1 - 0.8 * (steps - 1) / max(len(words) - 1, 1), 0.0)
    axes.imshow(shade, cmap="Greys", vmin=0, vmax=2.2, aspect="auto", interpolation="nearest")
    for (step, place), word in np.ndenumerate(words):
        axes.text(place, step, word, ha="center", va="center", fontsize=7)
    every = max(1, len(words) // 10)
    axes.set(
        xlabel="place in the sentence",
        ylabel="sampling step",
        xticks=range(words.shape[1]),
        xticklabels=range(1, words.shape[1] + 1),
        yticks=range(0, len(words), every),
        yticklabels=range(1, len(words) + 1, every),
    )
    axes.grid(visible=False)
