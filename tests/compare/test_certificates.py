"""What the Bellman residual guarantees holds: in thousands of random models, and where it can be worked out by hand."""

import numpy as np
import pytest
from support import random_mdp, share

from rlnet.compare import certify, judge_policy, reachable, uniform_policy
from rlnet.compare.certificates import action_values
from rlnet.compare.judge import Judged, greedy_policy
from rlnet.mdp import FiniteMDP, ImproperPolicyError, Solution, solve

GAMMAS = (0.0, 0.5, 0.5, 0.9, 0.9, 0.9, 0.99, 0.99, 0.99, 1.0)  # of model k: GAMMAS[k % 10]


def costly_mdp(seed: int) -> FiniteMDP:
    """Every step costs something, and may end the episode or not: well-posed at γ = 1, with policies that never end."""
    rng = np.random.default_rng(seed)
    states, actions = int(rng.integers(2, 6)), int(rng.integers(1, 4))
    transition = rng.dirichlet(np.full(states, 0.4), size=(states, actions))
    transition[rng.random((states, actions)) < 0.3] = np.eye(states)[rng.integers(states)]
    terminal = np.arange(states) == states - 1
    available = rng.random((states, actions)) < 0.8
    available[np.arange(states), rng.integers(actions, size=states)] = True
    available &= ~terminal[:, None]
    start = rng.dirichlet(np.ones(states)) * ~terminal
    return FiniteMDP.from_arrays(
        transition, -rng.random((states, actions)), terminal=terminal, available=available, start=start / start.sum()
    )


def random_policy(mdp: FiniteMDP, rng: np.random.Generator) -> np.ndarray:
    policy = rng.dirichlet(np.full(mdp.n_actions, 0.5), size=mdp.n_states) * mdp.available + 1e-12 * mdp.available
    return policy / np.maximum(policy.sum(1, keepdims=True), 1e-300)


def estimate(exact: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exact values with errors of any size: none, tiny, large, a constant, or numbers without any relation."""
    size = 10.0 ** rng.uniform(-9, 2) * (rng.random() < 0.9)
    shift = size * rng.normal() * (rng.random() < 0.3)
    keep = float(rng.random() < 0.8)
    return keep * np.where(np.isfinite(exact), exact, 0.0) + shift + size * rng.normal(size=exact.shape)


def truths(mdp: FiniteMDP, acts: np.ndarray, best: Solution, judged: Judged, exact, v, q) -> dict[str, float]:
    """The true errors that the certificates of v or q are about, in the reachable states that act."""
    values = action_values(mdp, np.where(mdp.terminal, 0.0, v), best.gamma) if q is None else q
    greedy = greedy_policy(mdp, values, best.temperature)
    of_greedy = judge_policy(mdp, greedy, best)
    found = {"regret": float(mdp.start @ best.v) - judged.value}
    found["loss"] = np.inf if of_greedy.value == -np.inf else float((best.v - of_greedy.v)[acts].max())
    if q is not None:
        found["q"] = float(np.abs(q - exact.q)[acts[:, None] & mdp.available].max())
    else:
        found["v"] = float(np.abs(v - exact.v)[acts].max())
    return found


def ratios(seed: int) -> dict[str, float]:
    """Bound over true error, for one random model and one random estimate; fails where a bound is violated."""
    rng, gamma = np.random.default_rng(seed), GAMMAS[seed % len(GAMMAS)]
    mdp = costly_mdp(seed) if gamma == 1.0 else random_mdp(seed, int(rng.integers(2, 6)), 2, bool(rng.integers(2)))
    temperature = 0.2 if gamma < 1.0 and rng.random() < 0.2 else 0.0
    try:
        best = solve(mdp, gamma, temperature=temperature)
    except ImproperPolicyError:
        return {}
    judged = judge_policy(mdp, random_policy(mdp, rng), best)
    optimal = bool(rng.integers(2)) or judged.value == -np.inf
    exact = best if optimal else judged
    v, q = (estimate(exact.v, rng), None) if rng.integers(2) else (None, estimate(exact.q, rng))
    closed = reachable(mdp)
    proved = certify(mdp, gamma, judged.policy, closed, optimal=optimal, v=v, q=q, temperature=temperature)
    found = {}
    for name, true in truths(mdp, closed & ~mdp.terminal, best, judged, exact, v, q).items():
        bound = getattr(proved, name)
        slack = 4.0 * (best.error_bound + judged.error_bound) if np.isfinite(true) else 0.0
        assert bound >= true - slack, (seed, gamma, name, bound, true)
        if np.isfinite(true) and true > 1e-6:
            found[name] = bound / true
    return found


@pytest.mark.filterwarnings("ignore::rlnet.mdp.ToleranceWarning")  # a policy that hardly ends: its bound is known
@pytest.mark.parametrize("models", [500, pytest.param(share(10_000), marks=pytest.mark.slow)])
def test_no_bound_is_violated_in_random_models(models):
    """No certified bound may lie below the truth; and it must say something: medians of bound / true error."""
    tightness: dict[tuple, list[float]] = {}
    for seed in range(models):
        for name, ratio in ratios(seed).items():
            tightness.setdefault((name, GAMMAS[seed % len(GAMMAS)]), []).append(ratio)
    medians = {key: float(np.median(values)) for key, values in sorted(tightness.items())}
    print({f"{name} γ={gamma:g}": round(median, 2) for (name, gamma), median in medians.items()})
    assert len(medians) == 20, "every certificate was tried at every γ"
    for (name, gamma), median in medians.items():
        if name != "loss":  # which is 0 for a while, however wrong the values: a ratio says little
            assert median < {0.0: 1.001, 0.5: 6, 0.9: 20, 0.99: 200, 1.0: 8}[gamma], (name, gamma)


def chain(length: int = 3) -> FiniteMDP:
    """Forward at −1 a step to the end, or back to the start at −1."""
    outcomes = {s: {0: [(1.0, s + 1, -1.0, s + 1 == length)], 1: [(1.0, 0, -1.0, False)]} for s in range(length)} | {
        length: {}
    }
    return FiniteMDP.from_outcomes(outcomes, n_states=length + 1, n_actions=2, start=np.eye(length + 1)[0])


def test_a_constant_error_shows_at_its_full_size_and_costs_nothing():
    """Two states for ever: V* + 1 has residual −(1 − γ) everywhere: the bound is exactly 1, and the loss 0."""
    mdp = FiniteMDP.from_arrays(np.full((2, 2, 2), 0.5), np.array([[1.0, 0.0], [0.0, 2.0]]))
    best = solve(mdp, 0.9)
    proved = certify(mdp, 0.9, best.policy, np.ones(2, bool), v=best.v + 1.0, optimal=True)
    assert proved.v == pytest.approx(1.0)
    assert proved.loss == pytest.approx(0.0, abs=1e-9)
    proved = certify(mdp, 0.9, best.policy, np.ones(2, bool), q=best.q - 3.0, optimal=True)
    assert proved.q == pytest.approx(3.0)
    assert proved.regret == pytest.approx(0.0, abs=1e-9)


def test_the_classic_bounds_are_never_beaten_by_it():
    """‖r‖/(1 − γ) for V and Q, 2γ‖r‖/(1 − γ) for the loss (Williams & Baird 1993)."""
    for seed in range(50):
        mdp, gamma = random_mdp(seed), 0.9
        v = np.where(mdp.terminal, 0.0, np.random.default_rng(seed).normal(size=mdp.n_states))
        closed = reachable(mdp)
        backed = np.where(mdp.terminal, 0.0, action_values(mdp, v, gamma).max(1))
        residual = np.abs(backed - v)[closed].max()
        proved = certify(mdp, gamma, uniform_policy(mdp), closed, v=v, optimal=True)
        assert proved.v <= residual / (1 - gamma) * (1 + 1e-9)
        assert proved.loss <= 2 * gamma * residual / (1 - gamma) * (1 + 1e-9)


def test_without_discount_the_steps_to_the_end_bound_the_error_or_nothing_does():
    mdp = chain()
    best = solve(mdp, 1.0)
    alive = ~mdp.terminal
    # Every V is 0.2 too high: residuals are 0, but −0.2 in the last step; three steps remain from the start.
    proved = certify(mdp, 1.0, best.policy, np.ones(4, bool), v=best.v + 0.2 * alive, optimal=True)
    assert 0.2 <= proved.v <= 0.2 * 3 * (1 + 1e-6)
    assert proved.loss <= 0.6 * (1 + 1e-6)
    back = np.array([[0.0, 1.0]] * 3 + [[0.0, 0.0]])  # goes back to the start for ever
    proved = certify(mdp, 1.0, back, np.ones(4, bool), v=best.v, optimal=False)
    assert proved.v == proved.regret == np.inf


def test_a_free_loop_is_worth_nothing_whatever_the_residual_says():
    """Staying costs nothing and leaving costs 1, so V* = 0; V = −1 has no residual, and must not be certified."""
    mdp = FiniteMDP.from_outcomes(
        {0: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 1, -1.0, True)]}, 1: {}}, n_states=2, n_actions=2, start=np.eye(2)[0]
    )
    leave = np.array([[0.0, 1.0], [0.0, 0.0]])
    assert solve(mdp, 1.0).v[0] == 0.0
    proved = certify(mdp, 1.0, leave, np.ones(2, bool), v=np.array([-1.0, 0.0]), optimal=True)
    assert proved.v >= 1.0
    assert proved.regret >= 1.0
