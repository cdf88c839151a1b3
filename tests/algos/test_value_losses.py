"""Losses of the methods that learn Q from replay, against exact solutions, by enumeration of small models."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from losses import GAMMA, backed_up, hyper, learner_for, step_of, uniform_policy
from scipy.special import logsumexp
from support import all_states, enumerated, make_run, random_mdp

from rlnet.data.rollout import Rollout, first_row
from rlnet.learning.learner import Learner
from rlnet.mdp import FiniteMDP, solve

TAU = 0.4
SOFT = {"temperature": TAU}
MUNCHAUSEN = {"temperature": TAU, "bonus": 0.6, "floor": -np.inf}


def set_to(learner: Learner, *tables: np.ndarray) -> None:
    """Current and target network as these tables, 0 where an action is not available."""
    for theta, table in zip((learner.theta, learner.target), (tables[0], tables[-1]), strict=True):
        theta.copy_(torch.as_tensor(np.where(np.isfinite(table), table, 0.0)).reshape(1, -1))


def soft_maximum(mdp: FiniteMDP, q: np.ndarray, temperature: float) -> np.ndarray:
    masked = np.where(mdp.available | mdp.terminal[:, None], q, -np.inf)
    return np.where(mdp.terminal, 0.0, temperature * logsumexp(masked / temperature, axis=1))


@pytest.mark.parametrize("seed", range(3))
def test_a_soft_q_step_is_the_soft_bellman_error(seed):
    """Δq = w·(r + γ·P·τ·log Σ exp(Q⁻/τ) − q)."""
    mdp = random_mdp(seed)
    policy, weights = uniform_policy(mdp), np.linspace(0.5, 1.5, mdp.n_states)
    learner = learner_for("soft_q", mdp)
    q, old = np.random.default_rng(seed).normal(size=(2, mdp.n_states, mdp.n_actions))
    set_to(learner, q, old)
    change = step_of(learner, enumerated(mdp, policy, weights), **SOFT).reshape(q.shape).numpy()
    error = (backed_up(mdp, soft_maximum(mdp, old, TAU)) - q) * mdp.available
    np.testing.assert_allclose(change, weights[:, None] * policy * error, atol=1e-5)


def munchausen_fixed_point(mdp: FiniteMDP) -> np.ndarray:
    """Q̃ + α·τ·log π̃ of the exact solution at the temperature (1 − α)·τ."""
    exact = solve(mdp, GAMMA, temperature=(1 - MUNCHAUSEN["bonus"]) * TAU)
    with np.errstate(divide="ignore"):
        return exact.q + MUNCHAUSEN["bonus"] * TAU * np.log(exact.policy)


@pytest.mark.parametrize("seed", range(3))
def test_soft_q_stays_at_the_soft_optimum_and_munchausen_at_the_one_of_less_temperature(seed):
    mdp = random_mdp(seed)
    batch = enumerated(mdp, uniform_policy(mdp), np.ones(mdp.n_states))
    soft, munchausen = learner_for("soft_q", mdp), learner_for("munchausen_dqn", mdp)
    set_to(soft, solve(mdp, GAMMA, temperature=TAU).q)
    set_to(munchausen, munchausen_fixed_point(mdp))
    np.testing.assert_allclose(step_of(soft, batch, **SOFT).numpy(), 0.0, atol=2e-6)
    np.testing.assert_allclose(step_of(munchausen, batch, **MUNCHAUSEN).numpy(), 0.0, atol=2e-6)
    # What is compared with the exact Q* are the values without the bonus.
    algorithm = munchausen.algorithm
    values = algorithm.values(munchausen.context, munchausen.params, all_states(mdp), hyper(**MUNCHAUSEN))[0].numpy()
    exact = solve(mdp, GAMMA, temperature=algorithm.temperature(MUNCHAUSEN))
    np.testing.assert_allclose(values[mdp.available], exact.q[mdp.available], atol=2e-6)
    assert (values[~mdp.available & ~mdp.terminal[:, None]] == -np.inf).all()


def segments(mdp: FiniteMDP, steps: int, count: int, seed: int) -> Rollout:
    """Random rows with random ends: [n, 1, B], of which the first of each segment has a weight."""
    rng = np.random.default_rng(seed)
    shape = (steps, 1, count)
    state, following = (torch.as_tensor(rng.integers(mdp.n_states, size=shape)) for _ in range(2))
    ended, cut, missing = (torch.as_tensor(rng.random(shape) < 0.25) for _ in range(3))
    missing[0] = False
    weight = torch.zeros(shape)
    weight[0] = 1 / count
    mask = torch.as_tensor(mdp.available | mdp.terminal[:, None])
    return Rollout(
        obs=state, next_obs=following, action=mask[state].float().argmax(-1),
        reward=torch.as_tensor(rng.normal(size=shape), dtype=torch.float32), terminated=ended, truncated=cut & ~ended,
        valid=~missing, start_discount=torch.ones(shape), weight=weight, mask=mask[state], next_mask=mask[following],
    )  # fmt: skip


def written_out(batch: Rollout, value: np.ndarray, bonus: np.ndarray) -> list[float]:
    """R + γ·(R' + bonus(S', A')) + … + γ^k·value(S_k), k where the segment, its episode or its rows end."""
    found = []
    for b in range(batch.reward.shape[2]):
        rows = {name: batch.array(name)[:, 0, b] for name in ("obs", "action", "next_obs", "reward", "terminated")}
        stops = (batch.terminated | batch.truncated)[:, 0, b].tolist()
        valid = [*batch.valid[:, 0, b].tolist(), False]
        total = 0.0
        for k, stop in enumerate(stops):
            total += GAMMA**k * (rows["reward"][k] + (bonus[rows["obs"][k], rows["action"][k]] if k else 0.0))
            if stop or not valid[k + 1]:
                total += 0.0 if rows["terminated"][k] else GAMMA ** (k + 1) * value[rows["next_obs"][k]]
                break
        found.append(total)
    return found


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("name", ["dqn", "double_dqn", "soft_q", "munchausen_dqn", "qr_dqn"])
def test_targets_of_segments_are_the_sums_written_out(name, steps):
    """TD errors of the first rows, wherever their episodes end; networks see no row that no target asks for."""
    mdp, count = random_mdp(1), 64
    learner = learner_for(name, mdp, n_step=steps, **({"quantiles": 1} if name == "qr_dqn" else {}))
    q, old = np.random.default_rng(3).normal(size=(2, mdp.n_states, mdp.n_actions))
    set_to(learner, q, old)
    learner.manual, seen = None, rows_seen(learner)
    batch, numbers = segments(mdp, steps, count, seed=2), MUNCHAUSEN if name == "munchausen_dqn" else SOFT
    _, measure = learner._gradient(batch, hyper(huber=np.inf, **numbers))
    allowed = mdp.available | mdp.terminal[:, None]
    current, target = np.where(allowed, q, -np.inf), np.where(allowed, old, -np.inf)
    value, bonus = target.max(1), np.zeros_like(q)
    if name == "double_dqn":
        value = np.take_along_axis(old, current.argmax(1)[:, None], 1)[:, 0]
    elif name in ("soft_q", "munchausen_dqn"):
        value = TAU * logsumexp(target / TAU, axis=1)
        own = old - value[:, None]  # τ·log π⁻
        # Soft: −τ·log π⁻ on the way. Munchausen adds α·τ·log π⁻ of every row, that of the first one too.
        bonus = -own if name == "soft_q" else (MUNCHAUSEN["bonus"] - 1) * own
    aims = np.array(written_out(batch, value, bonus))
    state, action = batch.array("obs")[0, 0], batch.array("action")[0, 0]
    if name == "munchausen_dqn":
        aims += MUNCHAUSEN["bonus"] * own[state, action]
    np.testing.assert_allclose(measure().error[0, 0], aims - q[state, action], atol=1e-5)
    assert max(seen) <= count * (steps if "soft" in name or "munchausen" in name else 1)


def test_segments_that_end_in_their_first_rows_are_learned_from_as_those_alone():
    """Discrete SAC, whose loss is more than targets: no other row counts, in its critics or in its actor."""
    mdp = random_mdp(1)
    learner = learner_for("sac_discrete", mdp)
    learner.theta.copy_(torch.as_tensor(np.random.default_rng(4).normal(size=learner.theta.shape)))
    batch = segments(mdp, 4, 64, seed=2)
    batch.terminated[0], batch.truncated[0] = True, False
    numbers = hyper(**SOFT)
    alone = learner._gradient(first_row(batch), numbers)[0].clone()
    grad, measure = learner._gradient(batch, numbers)
    torch.testing.assert_close(grad, alone)
    assert measure().error.shape == (1, 1, 64)


def rows_seen(learner: Learner) -> list[int]:
    """A list that grows by the number of observations of every evaluation of a network."""
    seen = []
    for role, network in learner.context.networks.items():

        def counted(params, obs, apply=network.apply):
            seen.append(obs.numel())
            return apply(params, obs)

        learner.context.networks[role] = replace(network, apply=counted)
    return seen


@pytest.mark.parametrize("seed", range(3))
def test_a_munchausen_step_is_the_one_of_the_paper(seed):
    """Vieillard et al. 2020, eq. 1: R + α·[τ·log π]_l + γ·Σ π·(Q⁻ − τ·log π) − Q, by loops over outcomes."""
    mdp, floor = random_mdp(seed), -0.3
    policy = uniform_policy(mdp)
    learner = learner_for("munchausen_dqn", mdp)
    q, old = np.random.default_rng(seed).normal(size=(2, mdp.n_states, mdp.n_actions))
    set_to(learner, q, old)
    batch = enumerated(mdp, policy, np.ones(mdp.n_states))
    change = step_of(learner, batch, **{**MUNCHAUSEN, "floor": floor}).reshape(q.shape).numpy()
    logs = (old - soft_maximum(mdp, old, TAU)[:, None]) / TAU
    pi = np.where(mdp.available, np.exp(logs), 0.0)
    following = (pi * (old - TAU * logs)).sum(1)
    target = backed_up(mdp, following) + MUNCHAUSEN["bonus"] * np.maximum(TAU * logs, floor)
    assert (TAU * logs < floor)[mdp.available].any()
    np.testing.assert_allclose(change, policy * (target - q) * mdp.available, atol=1e-5)


def two_steps(mdp: FiniteMDP, policy: np.ndarray) -> Rollout:
    """All segments of two transitions, the second action by `policy`: [2, 1, n], sums are expectations."""
    one = enumerated(mdp, policy, np.ones(mdp.n_states))
    first, second = [], []
    for i in range(one.obs.shape[2]):
        after = one.obs[0, 0] == one.next_obs[0, 0, i]
        if one.terminated[0, 0, i]:  # whatever follows belongs to another episode
            after = torch.arange(len(after)) == 0
        for j in after.nonzero().flatten().tolist():
            first.append(i)
            second.append(j)
    rows = {name: one.tensor(name)[0, 0] for name in one.names}
    both = {name: torch.stack((row[first], row[second])).unsqueeze(1) for name, row in rows.items()}
    share = torch.where(rows["terminated"][first], 1.0, rows["weight"][second])
    both["weight"] = torch.stack((rows["weight"][first] * share, torch.zeros_like(share))).unsqueeze(1)
    return Rollout(**both)


@pytest.mark.parametrize(("name", "own"), [("soft_q", SOFT), ("munchausen_dqn", MUNCHAUSEN)])
def test_soft_targets_of_two_steps_have_the_same_fixed_point_whoever_acts(name, own):
    """Path consistency; the two-step target of DQN is not right for a policy that explores."""
    mdp = random_mdp(1)
    rng = np.random.default_rng(0)
    policy = rng.random((mdp.n_states, mdp.n_actions)) * mdp.available
    policy /= np.maximum(policy.sum(1, keepdims=True), 1e-9)
    batch = two_steps(mdp, policy)
    learner, plain = learner_for(name, mdp), learner_for("dqn", mdp)
    set_to(learner, solve(mdp, GAMMA, temperature=TAU).q if name == "soft_q" else munchausen_fixed_point(mdp))
    set_to(plain, solve(mdp, GAMMA).q)
    np.testing.assert_allclose(step_of(learner, batch, **own).numpy(), 0.0, atol=3e-6)
    assert step_of(plain, batch).abs().max() > 0.05


@pytest.mark.parametrize("seed", range(2))
def test_huber_clips_the_error_of_each_row_and_rows_hand_their_error_back(seed):
    mdp, kappa = random_mdp(seed), 0.5
    policy = uniform_policy(mdp)
    batch = enumerated(mdp, policy, np.ones(mdp.n_states))
    learner = learner_for("dqn", mdp)
    q = np.random.default_rng(seed).normal(size=(mdp.n_states, mdp.n_actions))
    set_to(learner, q)
    result = learner.step(batch, hyper(huber=kappa), torch.ones(1, 1))
    best = np.where(mdp.terminal, 0.0, np.where(mdp.available, q, -np.inf).max(1))
    wanted, errors = np.zeros_like(q), []
    for k in range(batch.obs.shape[2]):
        s, a, after = (int(x[0, 0, k]) for x in (batch.obs, batch.action, batch.next_obs))
        value = 0.0 if batch.terminated[0, 0, k] else GAMMA * best[after]
        errors.append(float(batch.reward[0, 0, k]) + value - q[s, a])
        wanted[s, a] += float(batch.weight[0, 0, k]) * np.clip(errors[-1], -kappa, kappa)
    assert np.abs(errors).max() > kappa
    np.testing.assert_allclose((learner.theta.view(*q.shape).numpy() - q), wanted, atol=1e-5)
    np.testing.assert_allclose(result.error[0, 0].numpy(), errors, atol=1e-5)


def test_dueling_takes_the_mean_over_the_actions_that_are_available():
    mdp = random_mdp(0)
    learner = learner_for("dqn", mdp, dueling=True)
    learner.theta.copy_(torch.randn(learner.theta.shape, generator=torch.Generator().manual_seed(0)))
    table = learner.params["q"]["table"][0].numpy()
    q = learner.context.q(learner.params, all_states(mdp))[0].numpy()
    for s in np.flatnonzero(~mdp.terminal):
        allowed = np.flatnonzero(mdp.available[s])
        advantage = table[s, 1:][allowed]
        np.testing.assert_allclose(q[s, allowed], table[s, 0] + advantage - advantage.mean(), atol=1e-6)


def return_model() -> FiniteMDP:
    """Two decisions. Where it leads to, action 1 is the best on average and 2 the best at most; 0 is not available."""
    rows = []  # (state, action, next_state, probability, reward, terminated)
    for action, rewards in ((1, [1, 2, 3, 5, 7, 8, 11, 12]), (2, [-9, -8, 0, 0.5, 2.5, 4, 21, 26])):
        rows += [(1, action, 1, 1 / 8, reward, True) for reward in rewards]
    rows += [(0, 0, 1, 1 / 3, reward, False) for reward in (0.0, 1.3, 10.1)]
    rows += [(0, 2, 1, 1.0, -1.0, False)]
    columns = (np.array(column) for column in zip(*rows, strict=True))
    return FiniteMDP.from_coo(*columns, n_states=2, n_actions=3, start=np.array([1.0, 0.0]))


def quantiles_of(atoms: np.ndarray, count: int) -> np.ndarray:
    """The (i − ½)/K quantiles of equally likely atoms."""
    return np.quantile(atoms, (np.arange(count) + 0.5) / count, method="inverted_cdf")


@pytest.mark.slow
def test_quantile_regression_finds_the_quantiles_of_the_return():
    """K = 8, κ = 0: the quantiles of the reward, and of its sum with the discounted rest (a convolution by hand)."""
    mdp, count = return_model(), 8
    learner = learner_for("qr_dqn", mdp, quantiles=count)
    batch = enumerated(mdp, mdp.available.astype(float), np.ones(2))
    for rate in np.geomspace(20.0, 0.01, 1200):
        learner.follow(1.0)
        learner.step(batch, hyper(huber=0.0), torch.full((1, 1), rate))
    learned = learner.params["q"]["table"][0].view(2, 3, count).sort(-1).values.numpy()
    best, widest = (np.sort(mdp.reward[mdp.outcome_ptr[pair] : mdp.outcome_ptr[pair + 1]]) for pair in (2, 3))
    assert best.mean() > widest.mean()
    np.testing.assert_allclose(learned[1, 1], best, atol=0.02)
    np.testing.assert_allclose(learned[1, 2], widest, atol=0.02)
    convolution = (np.array([0.0, 1.3, 10.1])[:, None] + GAMMA * best).flatten()
    np.testing.assert_allclose(learned[0, 0], quantiles_of(convolution, count), atol=0.02)
    np.testing.assert_allclose(learned[0, 2], -1.0 + GAMMA * best, atol=0.02)
    q = learner.context.q(learner.params, all_states(mdp))[0].numpy()
    np.testing.assert_allclose(q[1], [-np.inf, best.mean(), widest.mean()], atol=0.02)


@pytest.mark.parametrize("seed", range(2))
def test_the_quantile_huber_step_is_that_of_the_paper(seed):
    """Dabney et al. 2018, eq. 9-10, differentiated by hand, row by row."""
    mdp, count, kappa = random_mdp(seed), 3, 0.7
    learner = learner_for("qr_dqn", mdp, quantiles=count)
    theta, old = np.random.default_rng(seed).normal(size=(2, mdp.n_states, mdp.n_actions, count))
    learner.theta.copy_(torch.as_tensor(theta).reshape(1, -1))
    learner.target.copy_(torch.as_tensor(old).reshape(1, -1))
    batch = enumerated(mdp, uniform_policy(mdp), np.ones(mdp.n_states))
    change = step_of(learner, batch, huber=kappa).view(*theta.shape).numpy()
    best = np.where(mdp.available, old.mean(-1), -np.inf).argmax(1)
    wanted = np.zeros_like(theta)
    for k in range(batch.obs.shape[2]):
        s, a, after = (int(x[0, 0, k]) for x in (batch.obs, batch.action, batch.next_obs))
        rest = 0.0 if batch.terminated[0, 0, k] else GAMMA * old[after, best[after]]
        for i in range(count):
            for target in np.broadcast_to(float(batch.reward[0, 0, k]) + rest, count):
                u = target - theta[s, a, i]
                slope = np.clip(u / kappa, -1, 1)  # of the Huber loss over κ
                wanted[s, a, i] += float(batch.weight[0, 0, k]) * abs((i + 0.5) / count - (u < 0)) * slope / count
    np.testing.assert_allclose(change, wanted, atol=1e-5)


def test_a_regularised_problem_is_compared_with_its_own_solution(tmp_path):
    """The soft optimum scores zero error and no regret; the hard optimum does not."""
    run = make_run("env=random_walk", "gamma=0.9", "algo=soft_q", "algo.hyper.temperature=0.2", "network=tabular")
    mdp, solution = run.problem.environment.mdp, run.problem.solutions[0]
    assert solution.temperature == 0.2
    set_to(run.learner, solution.q)
    scores = run.compare()[1].scalars
    for name in ("q_rmse", "v_rmse", "q_max", "regret", "bellman_residual"):
        assert abs(scores[f"exact/{name}"][0]) < 1e-5, name
    assert scores["exact/optimal_action_rate"][0] == pytest.approx(1.0)
    set_to(run.learner, solve(mdp, 0.9).q)
    assert run.compare()[1].scalars["exact/q_rmse"][0] > 0.1
    assert run.compare()[1].scalars["exact/regret"][0] > 0.01
