"""Whether somebody can move a widget, and how fast one plays."""

from IPython import get_ipython

from lib import progress

PLAY_INTERVAL = 400  # milliseconds a step


def interactive() -> bool:
    """Whether somebody can move a widget: where progress bars are drawn, in a notebook's kernel."""
    return progress.enabled() and hasattr(get_ipython(), "kernel")
