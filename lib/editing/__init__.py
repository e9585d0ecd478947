"""Editing facts in a causal language model: how an edit is scored, and one file for each method."""
