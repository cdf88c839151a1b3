"""Sweeps over all states in torch, on any device."""
