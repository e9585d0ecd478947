"""The models of Table 1 that are no diffusion."""
