"""How fast this machine multiplies matrices: the yardstick for every speed that we report."""

import time

import torch


def matrix_rate(dtype: torch.dtype, device: str = "cpu", size: int = 2048, repeats: int = 5) -> float:
    """Return the best rate, in floating-point operations a second, of a product of two square matrices."""
    left, right = (torch.randn(size, size).to(device, dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats + 1):  # the first one warms up, and is never the best
        began = time.perf_counter()
        product = left @ right
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
