"""Driving among other cars, on cells: exactly finite worlds in which the probability of a crash is computed."""
