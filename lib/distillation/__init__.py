"""Heterogeneous distillation with a middle-layer loss (CCL 2024): teacher, students, losses, maps and their cost."""
