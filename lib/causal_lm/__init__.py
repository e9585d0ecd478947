"""A pretrained causal language model as all series use it: its layers, encodings and continuations."""
