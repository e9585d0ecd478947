"""The variables that processes of the project start with, whoever runs it; importing this costs nothing."""

import os
from pathlib import Path

from lib.machine import threads

ROOT = Path(__file__).resolve().parents[2]

# How these variables begin: each changes which Python and packages run, what they print, draw or warn, or how numbers
# are rounded. The Makefile drops the same ones before Python starts.
FOREIGN = (
    *("PYTHON", "PYTEST_", "IPYTHON", "IPY_", "JUPYTER", "PAPERMILL_", "PYDEVD_", "MPL", "MATPLOTLIB"),
    *("TRANSFORMERS_", "TOKENIZERS_", "TQDM_", "PANDAS_", "NUMEXPR_", "NPY_", "NUMPY_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "VECLIB_", "DNNL_", "ONEDNN_", "ATEN_", "TORCH_", "PYTORCH_"),
    *("NVIDIA_TF32_", "LC_", "LANG", "TZ", "COLUMNS", "LINES", "TERM", "COLORTERM", "FORCE_COLOR", "NO_COLOR"),
    *("CLICOLOR", "PY_COLORS", "SOURCE_DATE_EPOCH"),
)
# What decides how much memory a GPU keeps, and how many threads a process that runs alone takes, is the user's.
USERS = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", *threads.VARIABLES)
FIXED = {
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "PYTHONNOUSERSITE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "COLUMNS": "80",
    "LINES": "24",
    "TERM": "dumb",
}


def own() -> dict[str, str]:
    """Return this process's variables without the user's own set-up of Python, its libraries and the terminal.

    `lib` is the one that this process runs, and stays so in another folder.
    """
    kept = {name: value for name, value in os.environ.items() if name in USERS or not name.startswith(FOREIGN)}
    return kept | FIXED | {"PYTHONPATH": str(ROOT)}
