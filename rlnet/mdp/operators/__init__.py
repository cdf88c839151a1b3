"""Bellman operators, Markov chains and linear systems of a model."""
