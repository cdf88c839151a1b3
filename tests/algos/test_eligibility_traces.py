"""Eligibility traces against the book's boxes in plain Python, the forward view, and exact fixed points."""

import numpy as np
import pytest
import torch
from support import finish, make_run, quick, quick_rows, random_mdp, run_on, update

from rlnet.config import ConfigError

GAMMA, LAMBDA, ALPHA, EPSILON = 0.9, 0.7, 0.2, 0.3
CONSTANT = ("schedule@optimizer.schedule=constant", "optimizer.schedule.value=1", f"optimizer.learning_rate={ALPHA}")
SETTING = (f"gamma={GAMMA}", f"algo.hyper.lambda_={LAMBDA}", "network=tabular", "steps=1000000", *CONSTANT)
EXPLORE = ("schedule=constant", f"schedule.value={EPSILON}")


class Box:
    """The book's algorithm for one table of values w[s, a] (or w[s, 0]) and N environments that share it."""

    def __init__(self, mdp, algo: str, kind: str, envs: int) -> None:
        self.mdp, self.algo, self.kind, self.envs = mdp, algo, kind, envs
        actions = 1 if "td" in algo else mdp.n_actions
        self.w = np.zeros((mdp.n_states, actions))
        self.z = np.zeros((envs, *self.w.shape))
        self.v_old = np.zeros(envs)

    def q(self, s: int) -> np.ndarray:
        return self.w[s][self.mdp.available[s]] if not self.mdp.terminal[s] else self.w[s]

    def after(self, s: int, ended: bool, next_action: int | None) -> float:
        """The value that is bootstrapped from."""
        if "td" in self.algo:
            return self.w[s, 0]
        if self.algo == "watkins_q_lambda":
            return self.q(s).max()
        if not ended:
            return self.w[s, next_action]
        return (1 - EPSILON) * self.q(s).max() + EPSILON * self.q(s).mean()

    def steps(self, rows: list[tuple]) -> None:
        """Rows (n, s, a, r, s', terminated, ended, a') of different environments, at the same time."""
        change = np.zeros_like(self.w)
        for n, s, a, reward, s2, terminated, ended, next_action in rows:
            a = 0 if "td" in self.algo else a
            v, v2 = self.w[s, a], self.after(s2, ended, next_action)
            decay = GAMMA * LAMBDA
            if self.algo == "watkins_q_lambda" and v < self.q(s).max():
                decay = 0.0
            z = self.z[n] * decay
            extra = 0.0
            if self.kind == "replacing":
                z[s, a] = 1.0
            elif self.kind == "accumulating":
                z[s, a] += 1.0
            else:
                z[s, a] += 1.0 - ALPHA * z[s, a]
                x = np.zeros_like(z)
                x[s, a] = 1.0
                extra = (v - self.v_old[n]) * (z - x)
            delta = reward + (0.0 if terminated else GAMMA * v2) - v
            change += ALPHA / self.envs * (delta * z + extra)
            self.v_old[n] = v2
            self.z[n] = 0.0 if ended else z
        self.w += change


CASES = [
    ("td_lambda", "accumulating", 3), ("td_lambda", "replacing", 3), ("true_online_td_lambda", "dutch", 1),
    ("sarsa_lambda", "accumulating", 3), ("sarsa_lambda", "replacing", 3), ("sarsa_lambda", "dutch", 1),
    ("watkins_q_lambda", "accumulating", 3), ("watkins_q_lambda", "replacing", 3),
]  # fmt: skip


@pytest.mark.parametrize(("algo", "kind", "envs"), quick_rows(CASES, 4))
def test_every_step_is_that_of_the_books_box(algo, kind, envs):
    """Terminations, truncations after 7 steps and A(s) included; several environments average their steps."""
    mdp = random_mdp(1, states=5, actions=3)
    options = [f"algo={algo}", f"algo.envs={envs}", *SETTING]
    if algo != "true_online_td_lambda":
        options.append(f"algo.options.traces={kind}")
    run = run_on(mdp, *options, *(() if "td" in algo else EXPLORE), max_steps=7)
    box = Box(mdp, algo, kind, envs)
    waiting: dict[int, tuple] = {}  # Sarsa: what waits for its next action
    ends = 0
    for _ in range(150):
        rollout = update(run)
        new = [
            (n, *(getattr(rollout, name)[-1, 0, n].item() for name in ("obs", "action", "reward", "next_obs")),
             bool(rollout.terminated[-1, 0, n]), bool((rollout.terminated | rollout.truncated)[-1, 0, n]))
            for n in range(envs)
        ]  # fmt: skip
        if algo == "sarsa_lambda":
            box.steps([(*waiting.pop(n), a) for n, _, a, *_ in new if n in waiting])
            box.steps([(*row, None) for row in new if row[-1]])
            waiting |= {row[0]: row for row in new if not row[-1]}
        else:
            box.steps([(*row, None) for row in new])
        ends += sum(row[-1] for row in new)
        np.testing.assert_allclose(run.learner.theta[0].numpy(), box.w.ravel(), atol=2e-5)
    assert ends > 10
    assert np.abs(box.w).max() > 0.3


def online_lambda_returns(rows: list[tuple], w0: np.ndarray) -> np.ndarray:
    """The online λ-return algorithm (S&B section 12.4): at every step all updates again, with all that is known.

    Rows (s, r, s', terminated) of one episode. Bootstraps of the truncated λ-return use w^{k−1} at step k.
    """
    history = [w0]  # history[h] is w^h_h
    for h in range(1, len(rows) + 1):
        w = w0.copy()
        for t in range(h):
            target, weight, discounted, total = 0.0, 1.0, 1.0, 0.0
            for k in range(t, h):
                s, reward, s2, terminated = rows[k]
                total += discounted * reward
                discounted *= GAMMA
                n_step = total + (0.0 if terminated else discounted * history[k][s2])
                last = k == h - 1
                target += weight * (1.0 if last else 1 - LAMBDA) * n_step
                weight *= LAMBDA
            s = rows[t][0]
            w[s] += ALPHA * (target - w[s])
        history.append(w)
    return history[-1]


def test_true_online_td_lambda_is_the_online_lambda_return_algorithm():
    """Exactly (van Seijen et al. 2016, theorem 1), after every step of 6 episodes on a walk, at a large α."""
    run = make_run("env=random_walk", "env.length=5", "algo=true_online_td_lambda", *SETTING)
    w, rows, episodes = np.zeros(run.problem.environment.mdp.n_states), [], 0
    while episodes < 6:
        rollout = update(run)
        row = [getattr(rollout, name).item() for name in ("obs", "reward", "next_obs", "terminated")]
        rows.append(tuple(row))
        now = online_lambda_returns(rows, w)
        np.testing.assert_allclose(run.learner.theta[0].numpy(), now, atol=1e-5)
        if row[-1]:
            w, rows, episodes = now, [], episodes + 1


@pytest.mark.parametrize(("traced", "plain"), [("td_lambda", "td0"), ("watkins_q_lambda", "q_learning")])
def test_without_a_trace_it_is_the_one_step_method(traced, plain):
    mdp, options = random_mdp(2), ("algo.envs=4", "seeds=2", "network=tabular", f"gamma={GAMMA}", *CONSTANT)
    more = () if traced == "td_lambda" else EXPLORE
    runs = [run_on(mdp, f"algo={traced}", "algo.hyper.lambda_=0", *options, *more, max_steps=9),
            run_on(mdp, f"algo={plain}", *options, *more, max_steps=9)]  # fmt: skip
    for run in runs:
        update(run, 60)
    torch.testing.assert_close(*(run.learner.theta for run in runs), atol=1e-6, rtol=1e-5)


def test_sarsa_lambda_without_a_trace_is_sarsa():
    """In a task that never ends: at an end, Sarsa learns from the last two steps in one."""
    mdp, options = random_mdp(2, ends=False), ("algo.envs=4", "seeds=2", "network=tabular", f"gamma={GAMMA}", *CONSTANT)
    runs = [run_on(mdp, "algo=sarsa_lambda", "algo.hyper.lambda_=0", *options, *EXPLORE),
            run_on(mdp, "algo=sarsa", *options, *EXPLORE)]  # fmt: skip
    for run in runs:
        update(run, 60)
    torch.testing.assert_close(*(run.learner.theta for run in runs), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("algo", quick(["td_lambda", "sarsa_lambda", "watkins_q_lambda", "true_online_td_lambda"], 2))
def test_a_resumed_run_has_its_traces_and_a_member_draws_what_it_draws_alone(algo, tmp_path):
    envs = 1 if algo == "true_online_td_lambda" else 3
    options = (
        "env=cliff",
        "env.max_episode_steps=45",
        "gamma=0.95",
        f"algo={algo}",
        f"algo.envs={envs}",
        "optimizer.learning_rate=0.001",
    )
    whole, half, alone = (make_run(*options, *more) for more in (("seeds=4",), ("seeds=4",), ("seed=3",)))
    update(whole, 60)
    update(half, 25)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed = make_run(*options, "seeds=4")
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    update(resumed, 35)
    update(alone, 60)
    assert torch.equal(whole.learner.theta, resumed.learner.theta)
    assert torch.equal(whole.learner.traces.trace, resumed.learner.traces.trace)
    assert whole.learner.traces.trace.abs().max() > 0
    torch.testing.assert_close(whole.learner.theta[3], alone.learner.theta[0], atol=1e-6, rtol=1e-5)


PROBLEMS = {
    "rewards": (random_mdp(11, masked=False), None),
    "actions": (random_mdp(12), None),
    "truncated": (random_mdp(13, ends=False), 30),
}


@pytest.mark.slow
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("algo", ["sarsa_lambda", "watkins_q_lambda", "n_step_sarsa", "mc_control"])
def test_control_reaches_its_fixed_point(algo, problem):
    """Q^π of the softmax policy that acts, or Q*, on random models with R(s, a, s'); γ = ½.

    (An ε-greedy policy jumps between actions that are nearly equal, and Q^π with it, whatever the step size.)
    Means over 16 members lie within 4.5 standard errors and 0.01 of the truth; a return that is cut off lacks at most
    0.1 % (`COMPLETE`) of what follows.
    """
    mdp, limit = PROBLEMS[problem]
    options = ["gamma=0.5", f"algo={algo}", "network=tabular", "seeds=16", "algo.envs=128", *EXPLORE]
    options += ["optimizer.learning_rate=4", "steps=64000"]
    if algo != "watkins_q_lambda":
        options += ["exploration=softmax", "schedule.value=1"]
    if algo == "mc_control":
        options += ["algo.rollout=30", "algo.envs=16", "optimizer.learning_rate=0.5", "steps=32000"]
    run = finish(run_on(mdp, *options, max_steps=limit))
    tables, comparison = run.compare()
    alive = mdp.available & ~mdp.terminal[:, None]
    error = (tables.q - np.where(alive, comparison.q_exact, 0.0))[:, alive]
    standard = error.std(0, ddof=1) / 4
    assert (np.abs(error.mean(0)) <= 4.5 * standard + 0.01).all()
    assert standard.max() < 0.04, "too much noise to say anything"
    assert np.ptp(comparison.q_exact[0][alive]) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("algo=true_online_td_lambda", "algo.envs=2"), "algo.envs=2: must be 1: the traces of algo=true_online_td"),
        (("algo=td_lambda", "algo.options.traces=replacing", "network=mlp"), "network=mlp: replacing traces need"),
        (("algo=td_lambda", "optimizer=adam"), "optimizer=adam: must be sgd: algo=td_lambda takes a step"),
        (("algo=td_lambda", "algo.options.traces=dutch"), "traces=dutch: allowed are accumulating, replacing"),
        (("algo=sarsa_lambda", "algo.hyper.lambda_=1.1"), r"lambda_=1.1: must be in \[0, 1\]"),
    ],
)
def test_what_traces_cannot_do_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make_run("env=random_walk", "gamma=0.9", *options)
