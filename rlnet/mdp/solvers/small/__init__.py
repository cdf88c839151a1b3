"""Solvers in numpy for small models (up to a few thousand states), where compilation would cost more."""
