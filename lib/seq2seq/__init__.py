"""What all eight models of InfoDiffusion's Table 1 share: batches, training, decoding, and one experiment."""
