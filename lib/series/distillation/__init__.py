"""The experiments of heterogeneous distillation with a middle-layer loss (CCL 2024)."""
