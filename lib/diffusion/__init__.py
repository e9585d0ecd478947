"""Text diffusion: InfoDiffusion and its baseline DiffuSeq, one network and one process for both."""
