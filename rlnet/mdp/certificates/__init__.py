"""Certificates: proved bounds on the error of values."""
