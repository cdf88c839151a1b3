"""Compiled solvers: sweeps over all states in numba kernels."""
