"""Experiments: building a run from its config, and its files on disk."""
