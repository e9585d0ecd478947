"""Products of bfloat16 matrices on a processor without instructions for them: in float32, rounded once.

There torch multiplies element by element, 20 to 50 times as slowly as in float32 (measured on an x86 processor with
AVX2). An instruction for bfloat16 multiplies exactly and adds in float32; so does a float32 product of the same
matrices, and the two differ by the order of sums alone. Importing this module puts it in the place of torch's own way,
for the whole process and where it is needed only; products in other precisions stay torch's.
"""

import platform
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Of `aten`; products with a vector and attention itself are as quick in bfloat16, attention's gradient is not.
SLOW = ("mm", "addmm", "bmm", "baddbmm", "_scaled_dot_product_flash_attention_for_cpu_backward")
_LIBRARY = torch.library.Library("aten", "IMPL")
_replaced: list[str] = []


def needed() -> bool:
    """Whether this is an x86 processor without instructions for bfloat16 products; no other kind was measured."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    return not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def replace() -> None:
    """Compute the operators in `SLOW` in float32 where they are given bfloat16 on a CPU; twice is once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch says that a kernel was replaced: that is what we want
        for name in SLOW:
            if name not in _replaced:
                own = torch.library.get_kernel(f"aten::{name}", "CPU")
                _LIBRARY.impl(name, _in_float32(own), "CPU", with_keyset=True, allow_override=True)
                _replaced.append(name)


def replaced() -> tuple[str, ...]:
    """Return the operators that are computed so in this process; none where the processor has instructions."""
    return tuple(_replaced)


def _in_float32(own: Any) -> Callable[..., Any]:
    """Return an operator that widens bfloat16 tensors, and rounds what `own` makes of them; `own` for all others."""

    def compute(keys: Any, *given: Any, **named: Any) -> Any:
        if not any(_is_narrow(value) for value in given):
            return own.call_boxed(keys, *given, **named)
        found = own.call_boxed(keys, *map(_wide, given), **{name: _wide(value) for name, value in named.items()})
        return found.bfloat16() if isinstance(found, Tensor) else tuple(value.bfloat16() for value in found)

    return compute


def _is_narrow(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype is torch.bfloat16


def _wide(value: Any) -> Any:
    return value.float() if _is_narrow(value) else value


if needed():
    replace()
