"""Learners to measure, one module each: `make(spec)` gives an object with `turn(steps) → steps done`, of all members.

Those that learn PPO have `actor() → [(weight, bias), ...]` too, the layers of their policy in numpy, with tanh between.
`spec` is a dictionary: kind (dqn, lake, grid, ppo), members, seed, threads, numbers; see `rlnet.bench.train_specs`.
Nothing here but `rlnet_run` imports rlnet: the others run in a Python where it need not be installed.
"""
