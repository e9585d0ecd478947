"""What a computation runs: the statements of this package that it reaches by name."""
