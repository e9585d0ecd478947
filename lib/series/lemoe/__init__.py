"""The experiments of LEMoE (EMNLP 2024)."""
