"""REINFORCE leave-one-out (RLOO; Kool et al. 2019; Ahmadian et al. 2024): the baseline is the group's other episodes.

With the options of `grpo` at `advantage: loo`, `length: sum`, `kl: k1`, `kl_of: sequence`, `kl_in: reward` the expected
update is the gradient of E[R] − β·KL(π ‖ π_ref).
"""

from dataclasses import replace

from rlnet.algos import grpo

ALGORITHM = replace(grpo.ALGORITHM, source="Ahmadian et al. 2024")
