"""transformers without its hub: set offline before it is imported, and silent."""

import os
from types import ModuleType


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
