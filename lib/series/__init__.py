"""The experiments of the four papers: what is compared, how it is run, its cases, and their scores."""
