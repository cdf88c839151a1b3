"""Proved bounds on the error of values."""
