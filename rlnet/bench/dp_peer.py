"""One solver in a process of its own: `python dp_peer.py SOLVER PROBLEM.npz GAMMA`, then lines "solve EPSILON".

Answers lines of JSON. Run by path, so that the solvers may live in another Python environment than rlnet.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time

import numpy as np
import scipy.sparse as sp


def closed(data: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, sp.csr_matrix]:
    """(state [P], action [P], expected reward [P], csr [P, S + 1]): ends lead to an extra state that absorbs, where
    states without actions go too; solvers that know no end need every state to have an action."""
    n, width = int(data["n_states"]), int(data["n_actions"])
    key = data["state"].astype(np.int64) * width + data["action"]
    pairs, row = np.unique(key, return_inverse=True)
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

    def solve(epsilon: float):
        result = problem.solve(method=method, epsilon=epsilon, max_iter=1_000_000)
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
        model.solve(algorithm=method, tolerance=epsilon, makeFinalCheck=False, postProcessing=False)
        return np.array(model.getValueVector())[:-1], -1

    solve.repeatable = False
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


def rlnet(data: dict, gamma: float, method: str):
    """rlnet's own `solve`."""
    from rlnet.mdp import FiniteMDP, solve

    columns = (data[k] for k in ("state", "action", "next_state", "probability", "reward", "terminated"))
    mdp = FiniteMDP.from_coo(*columns, n_states=int(data["n_states"]), n_actions=int(data["n_actions"]))

    def run(epsilon: float):
        solution = solve(mdp, gamma, tol=epsilon, method=method)
        run.bound, run.method = solution.error_bound, solution.method
        return solution.v, solution.sweeps

    return run


BUILDERS = {
    "rlnet": rlnet,
    "quantecon": quantecon,
    "pymdptoolbox": pymdptoolbox,
    "mdpsolver": mdpsolver,
    "scipy": scipy_sparse,
}


def timed(solve, epsilon: float) -> tuple[np.ndarray, int, float]:
    """(v, sweeps, seconds): the median over repetitions for a twentieth of a second, since a single short call measures
    how cold the caches are after the other solvers' turns. Solvers that go on from their last values are asked once."""
    times = []
    while not times or (sum(times) < 0.05 and getattr(solve, "repeatable", True)):
        began = time.perf_counter()
        v, sweeps = solve(epsilon)
        times.append(time.perf_counter() - began)
    return v, sweeps, statistics.median(times)


def main() -> None:
    """Build, then answer requests."""
    solver, method = sys.argv[1].split(":") if ":" in sys.argv[1] else (sys.argv[1], "auto")
    path, gamma = sys.argv[2], float(sys.argv[3])
    data = dict(np.load(path))
    began = time.perf_counter()
    solve = BUILDERS[solver](data, gamma, method)
    print(json.dumps({"build": time.perf_counter() - began}), flush=True)
    for line in sys.stdin:
        v, sweeps, seconds = timed(solve, float(line.split()[1]))
        np.save(f"{path}.{solver}.{method}.npy", v)
        answer = {
            "seconds": seconds,
            "sweeps": sweeps,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "bound": getattr(solve, "bound", None),
            "method": getattr(solve, "method", method),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
