"""Whoever runs it: settings of the user's own change no output, no figure, and not the Python that runs."""

import json
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from jupyter_client.kernelspec import KernelSpecManager

from lib import paths
from lib.reporting import figures
from lib.running import execution, kernels

# Shows what a setting could change: interpreter, switches, modules, terminal, time zone, threads, text and a picture.
CELLS = [
    'profile: str = "cpu"  # sizes',
    "import locale, os, random, shutil, sys, time, warnings\n"
    "import numpy as np\n"
    "import pandas as pd\n"
    "import matplotlib.pyplot as plt\n"
    "from lib import files, paths",
    "print(sys.executable, sys.flags, sys.dont_write_bytecode, sys.path, random.__file__)\n"
    'print("HOSTILE" in dir(), "hostile" in sys.modules, hash("a"), __debug__, sys.get_int_max_str_digits())\n'
    "print(shutil.get_terminal_size(), time.tzname, locale.getpreferredencoding(), sys.stdout.encoding)\n"
    "libraries = [name for name in os.environ if name.split('_')[0] in ('MKL', 'OMP', 'ATEN', 'NPY', 'OPENBLAS')]\n"
    "print({name: os.environ[name] for name in sorted(libraries)})",
    "with warnings.catch_warnings(record=True) as told:\n"
    '    warnings.warn("a warning", DeprecationWarning)\n'
    'print(len(told), f"{1/3} λ", time.strftime("%H %B", time.localtime(0)))\n'
    'pd.DataFrame(np.eye(70, 30) / 7, columns=["a long name"] * 30)',
    "figure, axes = plt.subplots()\n"
    'for name in ("school", "λ = 0.3"):\n'
    "    axes.plot(np.arange(30), np.sin(np.arange(30)) * len(name), label=name)\n"
    'axes.set(xlabel=r"step $\\bar\\alpha$", ylabel="value"); axes.legend()\n'
    'target = paths.work_figures(profile) / "1_infodiffusion/noise_schedule"\n'
    'files.write_text(target.with_suffix(".json"), "{}\\n")\n'
    'for suffix in (".png", ".pdf"):\n'
    '    undated = {"CreationDate": None} if suffix == ".pdf" else {}\n'
    "    files.write_atomically(target.with_suffix(suffix), lambda path: plt.savefig(path, metadata=undated))",
]
SHOWN = (
    "print('HOSTILE'); HOSTILE = 1; import pandas; pandas.set_option('display.precision', 2, 'display.max_rows', 3)\n"
)
OTHER = {"argv": ["/bin/false", "{connection_file}"], "display_name": "another Python", "language": "python"}
STARTS = ".ipython/profile_default"
# Settings by name: variables, where {home} stands for a folder of the user's, and files in that folder.
VARIABLES = {
    "PYTHONSTARTUP": "{home}/begin.py",
    "PYTHONPATH": "{home}/modules",
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "123",
    "PYTHONOPTIMIZE": "2",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONNOUSERSITE": "",
    "PYTHONUSERBASE": "{home}/base",
    "PYTHONUTF8": "0",
    "PYTHONIOENCODING": "latin-1",
    "PYTHONVERBOSE": "1",
    "PYTHONDEVMODE": "1",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONINTMAXSTRDIGITS": "700",
    "LC_ALL": "C",
    "LANG": "tr_TR.ISO-8859-9",
    "LANGUAGE": "de",
    "TZ": "Pacific/Auckland",
    "COLUMNS": "43",
    "LINES": "7",
    "TERM": "vt52",
    "NO_COLOR": "1",
    "FORCE_COLOR": "1",
    "MPLBACKEND": "svg",
    "MPLCONFIGDIR": "{home}/looks",
    "MATPLOTLIBRC": "{home}/looks/matplotlibrc",
    "XDG_CONFIG_HOME": "{home}/looks",
    "IPYTHONDIR": "{home}/.ipython",
    "JUPYTER_PATH": "{home}/jupyter",
    "JUPYTER_DATA_DIR": "{home}/jupyter",
    "JUPYTER_CONFIG_DIR": "{home}/.jupyter",
    "JUPYTER_CONFIG_PATH": "{home}/.jupyter",
    "JUPYTER_RUNTIME_DIR": "/proc/nowhere",
    "JUPYTER_PREFER_ENV_PATH": "0",
    "OMP_NUM_THREADS": "3",
    "MKL_NUM_THREADS": "3",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Prescott",
    "ATEN_CPU_CAPABILITY": "default",
    "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "TRANSFORMERS_VERBOSITY": "debug",
    "TRANSFORMERS_OFFLINE": "0",
    "TOKENIZERS_PARALLELISM": "true",
    "SOURCE_DATE_EPOCH": "0",
}
LINES = [
    "font.family: serif",
    "font.size: 20",
    "font.sans-serif: STIXGeneral",
    "axes.grid: False",
    "axes.xmargin: 0.4",
    "axes.unicode_minus: False",
    "axes.titleweight: bold",
    "axes.labelpad: 20",
    "xtick.direction: in",
    "xtick.minor.visible: True",
    "ytick.major.pad: 11",
    "lines.antialiased: False",
    "lines.linewidth: 7",
    "lines.markeredgewidth: 4",
    "legend.fancybox: False",
    "legend.labelspacing: 2",
    "figure.dpi: 50",
    "figure.subplot.left: 0.4",
    "figure.constrained_layout.h_pad: 0.3",
    "savefig.dpi: 50",
    "savefig.bbox: tight",
    "savefig.transparent: True",
    "path.simplify: False",
    "path.sketch: 1, 100, 2",
    "text.hinting: none",
    "text.antialiased: False",
    "text.parse_math: False",
    "mathtext.default: bf",
    "image.composite_image: False",
    "pdf.compression: 0",
    "pdf.use14corefonts: True",
    "pdf.inheritcolor: True",
    "agg.path.chunksize: 2",
    "figure.max_open_warning: 1",
    "timezone: Pacific/Auckland",
    "axes.formatter.limits: -1, 1",
    "polaraxes.grid: False",
]
FILES = {
    "begin.py": SHOWN,
    "modules/random.py": "raise ImportError('the random of the user')\n",
    "modules/sitecustomize.py": "import builtins, sys; builtins.HOSTILE = 1; sys.modules['hostile'] = sys\n",
    "modules/pandas.py": "raise ImportError('the pandas of the user')\n",
    f"base/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/usercustomize.py": SHOWN,
    f".local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/usercustomize.py": SHOWN,
    f"{STARTS}/startup/00.py": SHOWN,
    f"{STARTS}/ipython_config.py": "c = get_config(); c.InteractiveShellApp.exec_lines = ['HOSTILE = 1', 'print(3)']\n",
    f"{STARTS}/ipython_kernel_config.py": "c = get_config(); c.InteractiveShell.ast_node_interactivity = 'all'\n"
    "c.InlineBackend.figure_formats = ['svg']; c.InlineBackend.rc = {'figure.dpi': 30}\n",
    ".jupyter/jupyter_config.json": '{"KernelSpecManager": {"allowed_kernelspecs": ["none"]}}',
    ".jupyter/jupyter_nbclient_config.json": '{"NotebookClient": {"timeout": 1}}',
    ".local/share/jupyter/kernels/python3/kernel.json": json.dumps(OTHER),
    "jupyter/kernels/python3/kernel.json": json.dumps(OTHER),
    ".config/matplotlib/matplotlibrc": "\n".join(LINES),
    "looks/matplotlibrc": "\n".join(LINES),
    "looks/matplotlib/matplotlibrc": "\n".join(LINES),
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project, for this process and for the kernels it starts, with one notebook."""
    for name in ("ROOT", "NOTEBOOKS", "FIGURES", "BUILD"):
        monkeypatch.setattr(paths, name, tmp_path / ("" if name == "ROOT" else name.lower()))
    content = nbformat.read(Path(__file__).parents[1] / "fixtures/notebooks/well_behaved.ipynb", as_version=4)
    stem = "1_infodiffusion/noise_schedule"
    content.metadata["reproduction"] |= {"writes": [stem], "kinds": {stem: "figure"}}
    content.cells[1].source = CELLS[0]
    content.cells[2:] = [nbformat.v4.new_code_cell(cell, id=f"cell-{number}") for number, cell in enumerate(CELLS[1:])]
    paths.NOTEBOOKS.mkdir()
    nbformat.write(content, paths.NOTEBOOKS / "hostile.ipynb")
    return tmp_path


def outcome() -> dict[str, bytes]:
    """Run the notebook; return its bytes and those of its figure, by name."""
    execution.run(paths.NOTEBOOKS / "hostile.ipynb")
    files = [paths.BUILD / "notebooks/cpu/hostile.ipynb", *paths.FIGURES.rglob("*.*")]
    found = {file.name: file.read_bytes() for file in files}
    assert len(found) == 4
    assert b"image/png" in found["hostile.ipynb"]
    assert b"HOSTILE = 1" not in found["hostile.ipynb"]
    return found


def beset(monkeypatch, home: Path, variables: dict[str, str], files: dict[str, str]) -> None:
    """Give this process the variables, and a home with the files."""
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    monkeypatch.setenv("HOME", str(home))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=home))


def test_all_settings_at_once_change_nothing(project, monkeypatch):
    monkeypatch.setenv("HOME", str(project / "home"))  # its name is shown
    clean = outcome()
    beset(monkeypatch, project / "home", VARIABLES, FILES)
    assert outcome() == clean


@pytest.mark.thorough
@pytest.mark.parametrize("name", [*VARIABLES, *FILES])
def test_one_setting_changes_nothing(project, monkeypatch, name):
    monkeypatch.setenv("HOME", str(project / "home"))
    clean = outcome()
    if name in VARIABLES:
        # What it points to stands there, and nothing that is found without it.
        files = {file: text for file, text in FILES.items() if not file.startswith((".config", ".local"))}
        beset(monkeypatch, project / "home", {name: VARIABLES[name]}, files)
    else:
        beset(monkeypatch, project / "home", {}, {name: FILES[name]})
    assert outcome() == clean


def drawn(folder: Path, lines: list[str]) -> dict[str, bytes]:
    """Save a figure where matplotlib was started with these lines."""
    folder.mkdir()
    (folder / "matplotlibrc").write_text("\n".join(lines))
    with mpl.rc_context(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPRODUCTION_WORK_ROOT", str(folder))
        plt.rcParams.update(mpl.rc_params_from_file(folder / "matplotlibrc", use_default_template=False))
        figures.style()
        figure, axes = plt.subplots()
        values = np.sin(np.arange(-30, 30)) * 1e5
        axes.plot(np.arange(-30, 30), values, label="school")
        axes.set(xlabel=r"step $\bar\alpha$", ylabel="value", title="λ", ylim=(-1e5, 3e5))
        axes.legend(title="schedule", loc="upper left")
        figures.save(figure, "1_infodiffusion/noise_schedule", {"values": values}, "cpu", "A caption")
        plt.close(figure)
    return {file.name: file.read_bytes() for file in folder.rglob("noise_schedule.*")}


def test_no_matplotlibrc_shows_through_the_style_of_figures(tmp_path):
    clean = drawn(tmp_path / "clean", [])
    assert len(clean) == 3
    assert drawn(tmp_path / "all", LINES) == clean


@pytest.mark.thorough
@pytest.mark.parametrize("line", LINES)
def test_one_line_changes_no_figure(tmp_path, line):
    assert drawn(tmp_path / "one", [line]) == drawn(tmp_path / "clean", [])


def test_lab_starts_with_the_projects_kernels_and_the_users_looks(project, monkeypatch):
    begun = []
    monkeypatch.setattr("os.execve", lambda *call: begun.append(call))
    beset(monkeypatch, project / "home", VARIABLES, FILES)
    kernels.lab()
    [(program, line, variables)] = begun
    assert (program, line[-1]) == (sys.executable, str(paths.NOTEBOOKS / "0_start_here.ipynb"))
    assert f"--ServerApp.root_dir={project}" in line
    assert variables["JUPYTERLAB_SETTINGS_DIR"] == str(project / "home/.jupyter/lab/user-settings")
    assert "REPRODUCTION_PROGRESS" not in variables
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert KernelSpecManager().get_kernel_spec("python3").argv[0] == sys.executable
