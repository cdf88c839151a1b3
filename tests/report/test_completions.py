"""The picture of the reward-KL frontier: the law of sampling from the reference beside the path of a run."""

import numpy as np
import pytest
from support import composed

from rlnet.experiment.problem import build
from rlnet.report.completions import BEST_OF, frontier_figure


def test_the_points_of_best_of_n_are_those_of_all_completions():
    known = build(composed("env=tokens_nano", "network=tabular", "algo=rloo", "env.reference_steps=50")).completions
    rows = [{"member": "0", "step": str(k), "exact/kl": f"{0.1 * k}", "exact/reward": "0.5"} for k in range(3)]
    lines = {line.get_label(): line.get_xydata() for line in frontier_figure(known, rows).axes[0].get_lines()}
    p = (known.reached(np.exp(known.log_reference.reshape(-1, known.symbols + 1))) * known.ends).reshape(2, -1)
    passes = (p * (known.reward.reshape(2, -1) == 1)).sum(1)
    for n, (kl, reward) in zip(BEST_OF, lines["the best of n of the reference, exact"], strict=True):
        q = 1 - (1 - passes) ** n  # the rewards are 0 and 1
        assert reward == pytest.approx(q.mean())
        rest = np.where(q < 1, (1 - q) * np.log(np.maximum(1 - q, 1e-300) / (1 - passes)), 0.0)
        assert kl == pytest.approx((q * np.log(q / passes) + rest).mean(), abs=1e-9)
    kl, reward = lines["rejection: its best rewards alone"][0]
    assert reward == pytest.approx(1.0)
    assert kl == pytest.approx(-np.log(passes).mean())
