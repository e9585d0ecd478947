"""Models, losses, data and plumbing behind the four notebook series."""
