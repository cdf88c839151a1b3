"""Numerical tools: random streams, statistics, derivatives of losses, floating point."""
