"""Models, losses, data and plumbing behind the four notebook series."""

__version__ = "0.1.0"
