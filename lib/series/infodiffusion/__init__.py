"""The experiments of InfoDiffusion (Findings of EMNLP 2023)."""
