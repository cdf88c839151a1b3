"""Server process of one solver: `python dp_peer.py SOLVER PROBLEM GAMMA VALUES.npy`, then lines "solve EPSILON".

SOLVER is "package:method". PROBLEM is an .npz file, or "NAME:SIZE" of a function of `dp_problems`. Answers lines of
JSON and leaves the values in VALUES.npy. Run by path, so that the solvers may live in another environment than rlnet.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp


def closed(data: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, sp.csr_matrix]:
    """(state [P], action [P], expected reward [P], csr [P, S + 1]): ends lead to an extra state that absorbs, where
    states without actions go too; solvers that know no end need every state to have an action."""
    n, width = int(data["n_states"]), int(data["n_actions"])
    key = data["state"].astype(np.int64) * width + data["action"]
    first = np.diff(key, prepend=-1) != 0  # the problems are listed in this order
    pairs, row = key[first], np.cumsum(first) - 1
    to = np.where(data["terminated"], n, data["next_state"])
    reward = np.bincount(row, data["probability"] * data["reward"], minlength=len(pairs))
    idle = np.setdiff1d(np.arange(n + 1), pairs // width)
    rows = np.concatenate([row, len(pairs) + np.arange(len(idle))])
    p = sp.csr_matrix(
        (
            np.concatenate([data["probability"], np.ones(len(idle))]),
            (rows, np.concatenate([to, np.full(len(idle), n)])),
        ),
        shape=(len(pairs) + len(idle), n + 1),
    )
    state, action = np.concatenate([pairs // width, idle]), np.concatenate([pairs % width, 0 * idle])
    order = np.lexsort((action, state))
    return state[order], action[order], np.concatenate([reward, 0.0 * idle])[order], p[order]


def quantecon(data: dict, gamma: float, method: str):
    """QuantEcon's DiscreteDP."""
    from quantecon.markov import DiscreteDP

    state, action, reward, p = closed(data)
    problem = DiscreteDP(reward, p, gamma, state, action)
    limit = 200 if method == "policy_iteration" else 1_000_000  # where actions tie it alternates between them for ever

    def solve(epsilon: float):
        result = problem.solve(method=method, epsilon=epsilon, max_iter=limit)
        return result.v[:-1], int(result.num_iter)

    return solve


def pymdptoolbox(data: dict, gamma: float, method: str):
    """pymdptoolbox's solvers."""
    import mdptoolbox.mdp as toolbox

    state, action, reward, p = closed(data)
    n, width = p.shape[1], int(data["n_actions"])
    matrices, rewards = [], np.full((n, width), -1e9)
    for a in range(width):
        # Where the action is missing the state's first action stands in, so that nothing new becomes possible.
        row = np.searchsorted(state, np.arange(n))
        row[state[action == a]] = np.flatnonzero(action == a)
        matrices.append(p[row])
        rewards[:, a] = reward[row]

    def solve(epsilon: float):
        kind = getattr(toolbox, method)
        problem = kind(matrices, rewards, gamma, epsilon=epsilon, max_iter=1_000_000)
        problem.run()
        return np.array(problem.V)[:-1], int(problem.iter)

    return solve


def mdpsolver(data: dict, gamma: float, method: str):
    """mdpsolver's solvers."""
    import mdpsolver as package

    state, _, reward, p = closed(data)
    cuts = np.flatnonzero(np.diff(state)) + 1
    split = lambda x: [part.tolist() for part in np.split(x, cuts)]  # noqa: E731
    rows = np.split(np.arange(len(state)), cuts)
    values = [[p.data[p.indptr[i] : p.indptr[i + 1]].tolist() for i in block] for block in rows]
    columns = [[p.indices[p.indptr[i] : p.indptr[i + 1]].tolist() for i in block] for block in rows]
    model = package.model()
    model.mdp(discount=gamma, rewards=split(reward), tranMatProbs=values, tranMatColumns=columns)

    def solve(epsilon: float):
        # Without values to start from it goes on from those of the last call.
        nothing = [0.0] * p.shape[1]
        options = {"makeFinalCheck": False, "postProcessing": False, "initValueVector": nothing}
        model.solve(algorithm=method, tolerance=epsilon, **options)
        return np.array(model.getValueVector())[:-1], -1

    return solve


def scipy_sparse(data: dict, gamma: float, method: str):
    """Value iteration with SciPy's sparse products: the plain baseline."""
    state, _, reward, p = closed(data)
    begin = np.flatnonzero(np.diff(state, prepend=-1))

    def solve(epsilon: float):
        v, sweeps = np.zeros(p.shape[1]), 0
        while True:
            new = np.maximum.reduceat(reward + gamma * (p @ v), begin)
            change, v, sweeps = float(np.abs(new - v).max()), new, sweeps + 1
            if change <= epsilon * (1.0 - gamma):
                return v[:-1], sweeps

    return solve


def storm(data: dict, gamma: float, method: str):
    """Storm: "discounted" asks for the discounted total reward, any other method for the reward until an extra state is
    reached, where every step ends with chance 1 − γ (rewards of one sign only); "reachability" for the chance to reach
    a goal, where ends are all that pays, and all the same."""
    import stormpy
    from stormpy import environments

    state, _, reward, p = closed(data)
    until, sign, scale = method != "discounted", 1.0, 1.0
    if method == "reachability":
        scale = float(data["reward"].max())
        if (data["reward"] != scale * ((data["reward"] > 0.0) & data["terminated"])).any():
            raise ValueError("something else than one way to end pays: not a problem for this method")
        goal = sp.csr_matrix((reward / scale)[:, None])
        last = sp.csr_matrix(([1.0], ([0], [p.shape[1]])), shape=(1, p.shape[1] + 1))
        p = sp.vstack([sp.hstack([gamma * p[:, :-1], p[:, -1:] - goal, goal]), last], format="csr")
        state, reward = np.append(state, p.shape[1] - 1), np.append(reward, 0.0)
    elif until:
        sign = -1.0 if (reward <= 0.0).all() else 1.0  # costs to be kept small
        if (sign * reward < 0.0).any():
            raise ValueError("rewards of both signs: not a problem for this method")
        inner = gamma * p[:, :-1]
        p = sp.hstack([inner, sp.csr_matrix(1.0 - inner.sum(axis=1))], format="csr")
    model = _storm_model(state, sign * reward, p)
    goal = '[F "end"]' if until else f"[Cdiscount={gamma!r}]"
    asked = "Pmax" if method == "reachability" else f'R{{"r"}}{"min" if sign < 0.0 else "max"}'
    question = stormpy.parse_property(f"{asked}=? {goal}")
    algorithm = "OPTIMISTIC_VALUE_ITERATION" if method == "reachability" else method.upper()
    extra = p.shape[1] - int(data["n_states"])

    def solve(epsilon: float):
        environment = environments.sound()
        options = environment.solver().min_max()
        if until:
            options.method = getattr(environments.MinMaxMethod, algorithm)
        options.precision, options.relative_termination_criterion = stormpy.Rational(epsilon), False
        result = stormpy.model_checking(model, question, only_initial_states=False, environment=environment)
        return sign * scale * np.array(result.get_value_vector())[:-extra], -1

    return solve


def _storm_model(state: np.ndarray, reward: np.ndarray, p: sp.csr_matrix):
    """The sparse MDP of Storm; its last state is labelled "end"."""
    from stormpy import datastructures, models

    n = p.shape[1]
    p.sum_duplicates()
    rows = np.repeat(np.arange(p.shape[0]), np.diff(p.indptr))
    begin = np.flatnonzero(np.diff(state, prepend=-1))
    matrix = datastructures.SparseMatrixBuilder[float](
        rows=p.shape[0], columns=n, entries=p.nnz, has_custom_row_grouping=True, row_groups=n
    )
    matrix.add_next_values(rows.tolist(), p.indices.tolist(), p.data.tolist(), begin.tolist())
    labels = models.StateLabeling(n)
    for name, where in (("init", 0), ("end", n - 1)):
        labels.add_label(name)
        labels.add_label_to_state(name, where)
    rewards = models.SparseRewardModel[float](optional_state_action_reward_vector=reward.tolist())
    parts = models.SparseModelComponents[float](matrix.build(), labels, {"r": rewards})
    return models.SparseMdp[float](parts)


def rlnet(data: dict, gamma: float, method: str):
    """rlnet's own `solve`."""
    from rlnet.mdp import FiniteMDP, solve

    columns = (data[k] for k in ("state", "action", "next_state", "probability", "reward", "terminated"))
    mdp = FiniteMDP.from_coo(*columns, n_states=int(data["n_states"]), n_actions=int(data["n_actions"]))

    def run(epsilon: float):
        solution = solve(mdp, gamma, tol=epsilon, method=method)
        run.bound, run.method = solution.error_bound, solution.method
        return solution.v, solution.sweeps

    run.model_mib = sum(x.nbytes for x in vars(mdp).values() if isinstance(x, np.ndarray)) / 2**20
    return run


BUILDERS = {  # package to import → how to hand it a problem
    "rlnet": (rlnet, "rlnet.mdp"),
    "quantecon": (quantecon, "quantecon.markov"),
    "pymdptoolbox": (pymdptoolbox, "mdptoolbox.mdp"),
    "mdpsolver": (mdpsolver, "mdpsolver"),
    "storm": (storm, "stormpy"),
    "scipy": (scipy_sparse, "scipy.sparse"),
}


def timed(solve, epsilon: float) -> dict:
    """v, sweeps, and the median seconds over repetitions for a twentieth of a second, since a single short call
    measures how cold the caches are after the other solvers' turns; the first call's seconds, and threads (processor
    time over wall time) of all."""
    times, busy = [], time.process_time()
    while sum(times) < 0.05:
        began = time.perf_counter()
        v, sweeps = solve(epsilon)
        times.append(time.perf_counter() - began)
    threads = (time.process_time() - busy) / sum(times)
    return {"v": v, "sweeps": sweeps, "seconds": statistics.median(times), "first": times[0], "threads": threads}


def peak_mib(reset: bool = False) -> float:
    """The most memory resident so far, or since it was last reset (where the system can say)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def load(problem: str) -> dict[str, np.ndarray]:
    """The arrays of a problem."""
    if problem.endswith(".npz"):
        return dict(np.load(problem))
    import dp_problems  # lies beside this file

    name, size = problem.split(":")
    return getattr(dp_problems, name)(int(size))


def main() -> None:
    """Build, then answer requests."""
    package, method = sys.argv[1].split(":")
    gamma, values = float(sys.argv[3]), Path(sys.argv[4])
    builder, module = BUILDERS[package]
    importlib.import_module(module)
    data = load(sys.argv[2])
    began = time.perf_counter()
    solve = builder(data, gamma, method)
    build = {"build": time.perf_counter() - began, "build_mib": peak_mib()}
    data.clear()
    peak_mib(reset=True)
    print(json.dumps(build), flush=True)
    for line in sys.stdin:
        answer = timed(solve, float(line.split()[1]))
        np.save(values, answer.pop("v"))
        extra = {name: getattr(solve, name, None) for name in ("bound", "model_mib")}
        answer |= {"peak_mib": peak_mib(), "method": getattr(solve, "method", method), **extra}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
