"""This computer: its hardware and software, the installation, how fast it multiplies."""
