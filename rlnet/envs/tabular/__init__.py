"""Environments with a finite model."""
