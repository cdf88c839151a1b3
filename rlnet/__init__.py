"""rlnet: deep reinforcement learning that you can check.

Neural V, Q and π are trained from sampled targets and, wherever the environment has a finite model,
scored against the exact solution of the same problem.
"""

__version__ = "0.1.0"
