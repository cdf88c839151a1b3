"""Benchmarks: speed and exactness beside other programs, planted bugs, killed and long runs."""
