"""Compiled passes over positions. Not imported before the first move is played: numba takes a while."""
