"""The variables that say how many threads the numeric libraries of a new process take; importing this costs nothing."""

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
ONE = dict.fromkeys(VARIABLES, "1")
