"""Environments with real observations."""
