"""What `scripts/solve.py` does with its options, without starting it."""

import numpy as np
import pytest
from support import composed

from rlnet.config import ConfigError, SolveConfig
from rlnet.config.validation import check
from rlnet.envs import GridworldConfig
from rlnet.experiment.solve_job import solve_and_write
from rlnet.mdp import event_probability
from rlnet.report.summary import show_solution


def settings(side=4, **options):
    rows = ["S" + "." * (side - 1), *["." * side] * (side - 2), "." * (side - 1) + "G"]
    env = GridworldConfig(name="grid", gamma=0.9, map="\n".join(rows), step_reward=-1.0, slip=0.2)
    return check(SolveConfig(env=env, **{"gamma": 0.9} | options))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"method": "magic"}, "method=magic"),
        ({"tol": 0.0}, "tol=0.0"),
        ({"tol": float("nan")}, "tol=nan"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"horizon": -1}, "horizon=-1"),
        ({"device": "tpu"}, "device=tpu"),
        ({"device": "cuda", "method": "policy_iteration"}, "method=policy_iteration"),
        ({"temperature": 1.0, "method": "value_iteration"}, "method=value_iteration"),
        ({"horizon": 3, "device": "cuda"}, "device=cuda"),
        ({"horizon": 3, "verify": True}, "verify=True"),
    ],
)
def test_options_that_do_not_fit_end_in_one_sentence(options, key):
    with pytest.raises(ConfigError, match=f"^{key}: "):
        settings(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "method=auto picked "),
        ({"method": "value_iteration", "verify": True}, "by value_iteration"),
        ({"temperature": 0.5}, "temperature=0.5: J* = "),
        ({"horizon": 5}, "horizon=5: J* = "),
        ({"tol": 1e-300}, "The tolerance was not met (tol=1e-300 was asked for)."),
    ],
)
def test_the_solution_is_written_and_described(tmp_path, capsys, options, said):
    solved = solve_and_write(settings(**options), tmp_path)
    show_solution(solved)
    assert said in capsys.readouterr().out
    with np.load(solved.file) as stored:
        np.testing.assert_array_equal(stored["v"], solved.solution.v)
        assert stored["error_bound"] == solved.solution.error_bound


def test_an_interruption_writes_the_best_values_so_far(tmp_path, capsys):
    def interrupt(sweeps, bound, seconds):
        if sweeps >= 20:
            raise KeyboardInterrupt

    config = settings(side=12, gamma=0.99, method="value_iteration")
    solved = solve_and_write(config, tmp_path, interrupt)
    exact = solve_and_write(settings(side=12, gamma=0.99), tmp_path / "exact").solution
    assert solved.solution.interrupted
    assert solved.file.is_file()
    assert np.abs(solved.solution.v - exact.v).max() <= solved.solution.error_bound < np.inf
    show_solution(solved)
    assert "Interrupted" in capsys.readouterr().out


@pytest.mark.parametrize(("horizon", "steps"), [(None, 40), (10, 10), (0, 0)])
def test_the_risk_of_the_optimum_is_that_of_its_horizon(horizon, steps, tmp_path, capsys):
    options = [] if horizon is None else [f"horizon={horizon}"]
    road = ("env=highway", "env.sight=3", "env.max_speed=3", "env.traffic_speed=2")
    solved = solve_and_write(composed(*road, *options, name="solve"), tmp_path)
    show_solution(solved)
    exact = solved.mdp.start @ event_probability(solved.mdp, solved.solution.policy, "crash", horizon=steps)
    said = f"P(crash within {steps} steps) = {exact:.4g} under the optimal policy, 0 at the least."
    assert said in capsys.readouterr().out
