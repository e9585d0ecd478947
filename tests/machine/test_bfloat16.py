"""Products of bfloat16 in float32: against the same products in float64, in a process of their own."""

import ast
import subprocess
import sys

import pytest

from lib import paths
from lib.machine import bfloat16

# In a process of its own, since what is replaced stays so; on a processor with instructions nothing else would be.
BEGIN = """
import torch
from torch.nn import functional
from lib.machine import bfloat16
torch.manual_seed(0)
x, w, b = (torch.randn(*shape).bfloat16() for shape in ((5, 40), (40, 7), (7,)))
q = torch.randn(2, 3, 6, 8).bfloat16()
narrow = dict(
    mm=lambda: x @ w, addmm=lambda: torch.addmm(b, x, w, beta=2, alpha=3), bmm=lambda: q[0] @ q[1].mT,
    linear=lambda: functional.linear(x, w.T, b),
)
bfloat16.replace()
"""


def run(lines: str) -> str:
    done = subprocess.run([sys.executable, "-c", BEGIN + lines], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout


def test_a_product_is_the_exact_one_rounded_once() -> None:
    lines = """
exact = dict(
    mm=x.double() @ w.double(), addmm=2 * b.double() + 3 * (x.double() @ w.double()),
    bmm=q[0].double() @ q[1].double().mT, linear=x.double() @ w.double() + b.double(),
)
for name, product in narrow.items():
    found = product()
    assert found.dtype is torch.bfloat16, name
    # Half a unit in the last of eight bits, and what float32 loses before.
    assert ((found.double() - exact[name]).abs() <= 2**-8 * exact[name].abs() + 1e-5).all(), name
print("as exact", *bfloat16.replaced())
"""
    assert run(lines).split() == ["as", "exact", *bfloat16.SLOW]


def test_gradients_are_those_of_float32_rounded() -> None:
    lines = """
def gradients(dtype):
    leaves = [value.detach().clone().to(dtype).requires_grad_() for value in (x, w, q)]
    attended = functional.scaled_dot_product_attention(leaves[2], leaves[2], leaves[2], is_causal=True)
    ((leaves[0] @ leaves[1]).tanh().sum() + attended.square().sum()).backward()
    return [leaf.grad.double() for leaf in leaves]
for half, whole in zip(gradients(torch.bfloat16), gradients(torch.float32), strict=True):
    assert (half - whole).norm() <= 0.02 * whole.norm()
with torch.autocast("cpu", torch.bfloat16):
    assert (x.float() @ w.float()).dtype is torch.bfloat16
print("right")
"""
    assert run(lines).split() == ["right"]


def test_other_precisions_keep_torchs_own_products_to_the_bit() -> None:
    lines = """
for kind in (torch.float32, torch.float64, torch.complex64, torch.int64):
    values = [(10 * torch.randn(9, 9)).to(kind) for _ in range(3)]
    print(torch.addmm(values[0], values[1] @ values[2], values[2]).flatten().tolist())
"""
    own = BEGIN.replace("from lib.machine import bfloat16\n", "").replace("bfloat16.replace()\n", "")
    before = subprocess.run([sys.executable, "-c", own + lines], capture_output=True, text=True, check=True)
    assert run(lines) == before.stdout


def test_it_is_needed_where_an_x86_processor_has_no_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16.platform, "machine", lambda: "arm64")
    assert not bfloat16.needed()
    monkeypatch.setattr(bfloat16.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(bfloat16.torch.backends.mkldnn, "is_available", lambda: False)
    assert bfloat16.needed()


@pytest.mark.parametrize("path", ["seq2seq/training", "seq2seq/decoding", "causal_lm/layers"])
def test_what_multiplies_in_bfloat16_imports_it(path: str) -> None:
    tree = ast.parse((paths.ROOT / "lib" / f"{path}.py").read_text(encoding="utf-8"))
    named = [line for line in tree.body if isinstance(line, ast.ImportFrom) and line.module == "lib.machine"]
    assert "bfloat16" in [name.name for line in named for name in line.names]
