"""The models of InfoDiffusion's Table 1 that are no diffusion, and what all share: batches, training, decoding."""
