"""transformers without its hub, set offline before it is imported, and silent; and models that the user has at hand."""

import os
from pathlib import Path
from types import ModuleType


def place(name: str) -> str:
    """Return where a model of the hub is: a folder under MODEL_DIR called by the last part of its name, else the name.

    So a record names the model and not the folder of one machine.
    """
    root = os.environ.get("MODEL_DIR")
    folder = Path(root) / name.rpartition("/")[2] if root else None
    return str(folder) if folder is not None and folder.is_dir() and not Path(name).is_dir() else name


def use_offline() -> None:
    """Keep the hub out: set `HF_HUB_OFFLINE=1`, unless the user has set it; call it before transformers is imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def import_transformers(offline: bool) -> ModuleType:
    """Import transformers without its bars and advice; what matters of them is checked where models are loaded."""
    if offline:
        use_offline()
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
