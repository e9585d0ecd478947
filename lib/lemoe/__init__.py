"""LEMoE: a mixture-of-experts adaptor for lifelong editing of a causal language model (EMNLP 2024)."""
