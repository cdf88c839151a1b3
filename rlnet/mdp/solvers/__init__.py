"""Solvers of the Bellman optimality equations."""
