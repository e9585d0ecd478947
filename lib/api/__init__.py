"""What hands the methods to a model and data of one's own: a few functions, Trainers, and the command line.

from lib.api.editing import edit, load, read_edits
from lib.api.distillation import DistillationTrainer
from lib.api.beacons import WeightedTrainer, keep, measure, weigh
from lib.api.diffusion import load, train
"""

__all__ = ["beacons", "diffusion", "distillation", "editing"]
