"""Editing facts in a causal language model: what an edit is, how it is scored, and one file for each method."""
