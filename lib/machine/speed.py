"""How fast this machine multiplies matrices: the yardstick for every speed that we report."""

import time

import torch


def matrix_rate(dtype: torch.dtype, device: str = "cpu", size: int | None = None, repeats: int = 5) -> float:
    """Return the best rate, in floating-point operations a second, of a product of two square matrices.

    Of 2,048 rows on a CPU; of 8,192 on a GPU, which a smaller product leaves idle.
    """
    size = size or (2048 if device == "cpu" else 8192)
    left, right = (torch.randn(size, size).to(device, dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats + 1):  # the first one warms up, and is never the best
        began = time.perf_counter()
        product = left @ right
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
