"""Sentence pairs, vocabularies, text metrics and the choice among candidates."""
