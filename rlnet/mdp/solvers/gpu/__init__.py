"""GPU solvers: sweeps over all states in torch."""
