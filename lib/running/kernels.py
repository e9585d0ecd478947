"""What kernels start with: this interpreter, folders of their own, and nothing of the user's set-up.

Run as `python -m lib.running.kernels` it opens the notebooks in JupyterLab, on such kernels.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from lib import files, paths
from lib.errors import command
from lib.machine import threads, variables

# Not `paths.BUILD`: tests set that anew, and a list of fonts takes seconds.
PLACE = variables.ROOT / "build/kernels"
# How jupyter_client tells that a kernel ended before it ran anything. Two that start at once can be given one port,
# since a port is chosen before the kernel takes it: then to start it once more is all that helps.
UNANSWERED = "Kernel died before replying to kernel_info"


def environment(load: str) -> dict[str, str]:
    """Return all variables of a kernel, and make the folders and the description of the kernel that they name.

    No progress bars, fixed hashes, `python3` means this interpreter, and start-up files, settings and matplotlibrc of
    the user are not read. A light notebook gets one thread; one that runs alone keeps the threads of its parent.
    """
    found = variables.own() | {
        "REPRODUCTION_PROGRESS": "0",
        "REPRODUCTION_ROOT": str(paths.ROOT.absolute()),  # the kernel works in another folder
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": str(PLACE / "matplotlib"),
        "MATPLOTLIBRC": os.devnull,
        "IPYTHONDIR": str(PLACE / "ipython"),
        "JUPYTER_PATH": str(PLACE / "jupyter"),
        "JUPYTER_DATA_DIR": str(PLACE / "jupyter"),
        "JUPYTER_CONFIG_DIR": str(PLACE / "settings"),
        "JUPYTER_RUNTIME_DIR": str(PLACE / "runtime"),
    }
    if root := paths.work_root():
        found["REPRODUCTION_WORK_ROOT"] = str(root.absolute())
    _describe_kernel(PLACE / "jupyter/kernels/python3/kernel.json")
    _list_fonts(found)
    return found | (threads.ONE if load == "light" else {})


def _describe_kernel(file: Path) -> None:
    """Write the description by which Jupyter finds `python3`, unless it stands; it comes before all others."""
    from ipykernel.kernelspec import get_kernel_dict

    description = get_kernel_dict()
    if not file.is_file() or json.loads(file.read_bytes()) != description:
        files.write_json(file, description)


def _list_fonts(begun: dict[str, str]) -> None:
    """Let matplotlib list the fonts of this machine once; where that takes long, it says so on standard error."""
    if not list((PLACE / "matplotlib").glob("fontlist-*.json")):
        quiet = begun | {"MPLBACKEND": "agg"}
        subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], env=quiet, capture_output=True)


def lab() -> None:
    """Become JupyterLab: its kernels are the project's, its looks stay the user's. Links lead to `figures/`."""
    from jupyter_core.paths import jupyter_config_dir

    looks = os.environ.get("JUPYTERLAB_SETTINGS_DIR", str(Path(jupyter_config_dir()) / "lab/user-settings"))
    begun = environment("alone") | {"JUPYTERLAB_SETTINGS_DIR": looks}
    del begun["REPRODUCTION_PROGRESS"]  # a reader may watch the bars
    line = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={paths.ROOT.absolute()}"]
    os.execve(sys.executable, [*line, str(paths.NOTEBOOKS / "0_start_here.ipynb")], begun)


if __name__ == "__main__":
    command(lab)
