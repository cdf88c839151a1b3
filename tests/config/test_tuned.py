"""The tuned settings: they compose, and the one that is quick to run does what its file says."""

import numpy as np
import pytest
from support import CONFIGS, composed, trained

from rlnet.bench.train_peer import mean_return


@pytest.mark.parametrize("name", [path.stem for path in sorted((CONFIGS / "tuned").glob("*.yaml"))])
def test_every_tuned_setting_composes_and_gives_way_to_the_command_line(name):
    env, algo = name.split("_")
    config = composed(f"tuned={name}", "steps=5000", "optimizer.learning_rate=0.5")
    assert (config.env.name, config.algo.name) == (env, algo)
    assert (config.steps, config.optimizer.learning_rate) == (5000, 0.5)
    assert composed(f"tuned={name}").optimizer.learning_rate < 0.01


@pytest.mark.slow
def test_tuned_ppo_balances_the_pole_with_nearly_every_seed():
    """Of 120 other seeds 112 ended at 475 or more; were it half of them only, 9 of 12 would do so once in 14 times."""
    run = trained("tuned=cartpole_ppo", "seeds=12", "seed=100")
    params = {name: tensor.numpy() for name, tensor in run.learner.params["pi"].items()}
    layers = [[(params[f"weight{k}"][m], params[f"bias{k}"][m]) for k in range(3)] for m in range(12)]
    returns = [mean_return(member) for member in layers]
    assert np.median(returns) == 500
    assert sum(value >= 475 for value in returns) >= 9
