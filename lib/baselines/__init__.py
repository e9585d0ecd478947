"""The models that InfoDiffusion is compared with in Table 1, all behind one interface."""
