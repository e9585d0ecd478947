"""Notebooks and their contracts, the whole run, and what is told of it."""
