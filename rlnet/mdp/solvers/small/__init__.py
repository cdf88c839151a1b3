"""Solvers in numpy for models of up to a few thousand states, where compiling would cost more than solving."""
