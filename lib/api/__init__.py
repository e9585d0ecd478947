"""What hands the methods to a model and data of one's own: a few functions, Trainers, and the command line."""
