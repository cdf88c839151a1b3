"""Sweeps over all states in kernels that numba compiles."""
