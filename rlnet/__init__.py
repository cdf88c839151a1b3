"""rlnet: deep reinforcement learning that you can check.

Neural V, Q and π are trained from sampled targets and, wherever the environment has a finite model,
scored against the exact solution of the same problem.
"""

import os

# Threads of numpy's OpenBLAS lose five times over one on products as small as those of a 64×64 network. It reads this
# when numpy is first imported; a number set outside is kept.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


__version__ = "0.1.0"
