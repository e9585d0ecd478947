"""Models, losses, data and plumbing behind the four notebook series."""

__all__ = ["__version__"]

__version__ = "0.1.0"
