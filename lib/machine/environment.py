"""The machine and the software behind a number, without naming the machine."""

import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lib import files, paths
from lib.errors import UserError

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "pyarrow", "sacrebleu", "nltk")

# Our choice: bits are promised only where all of these agree. The lock alone would leave numpy open, whose version
# follows the version of Python.
NUMERICS = ("lock", "packages", "threads", "cpu_capability", "accelerator")


def describe() -> dict[str, Any]:
    """Versions, lock, processor, threads and commit of this process, for provenance; no host name and no path."""
    lock = paths.ROOT / "requirements.lock"
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "lock": files.sha256(lock) if lock.is_file() else None,
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": commit(),
    }


def same_numerics(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two descriptions promise equal bits for equal code, config, data and seed."""
    return not numeric_differences(a, b)


def numeric_differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Names of the properties in which two descriptions differ and that may change bits."""
    return [name for name in NUMERICS if a.get(name) != b.get(name)]


def commit() -> dict[str, Any] | None:
    """Git commit, and whether `lib/` or the lock differ from it; None outside a checkout of this project."""
    if _git("rev-parse", "--show-prefix") != "":  # a path: we only lie inside somebody else's checkout
        return None
    head = _git("rev-parse", "--short=12", "HEAD")
    if not head:
        return None
    return {"hash": head, "dirty": _git("status", "--porcelain", "--", "lib", "requirements.lock") != ""}


def require_device(device: str, profile: str) -> None:
    """Raise `UserError` where a profile computes on a GPU ("cuda") and this process sees none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"profile {profile} computes on an NVIDIA GPU, and torch {torch.__version__} finds none: choose "
            "profile cpu or smoke, or run on a machine with a GPU and the CUDA build of torch"
        )


def limit_threads(count: int) -> None:
    """Let torch compute with `count` threads from here on; sums, and so bits, depend on it."""
    torch.set_num_threads(count)


def peak_memory() -> float:
    """Peak resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)  # macOS counts bytes, Linux KiB


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str | None:
    """Output of a git command in the project, or None when it fails or git is missing."""
    try:
        run = subprocess.run(["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()
