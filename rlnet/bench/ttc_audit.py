"""How wrong highway-env's time-to-collision table is about what is simulated.

    python -m rlnet.bench.ttc_audit [ENV_ID] [EPISODES]      (highway-fast-v0, 10)

The table (`highway_env.envs.common.finite_mdp`) says for every speed and lane after how many seconds the own car
collides if all others keep their speeds and lanes. It is a planner's model, not the truth: a planner solves it anew in
every step and takes its first action, and what the table says of that step is set beside what happens: a collision
(certain or possible) beside a crash, and the reward that it states beside the one that is paid.
"""

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from rlnet.commands.failures import answer
from rlnet.config import require
from rlnet.config.optional import needed
from rlnet.mdp import FiniteMDP, solve
from rlnet.numerics.statistics import wilson

IDS = ("highway-v0", "highway-fast-v0")  # whose rewards the table states
SAYS = {0.0: "no collision", 0.5: "a possible collision", 1.0: "a collision"}


@dataclass(frozen=True)
class Table:
    """The table of a moment as a model: states are (speed, lane, seconds ahead), and it ends in a collision."""

    mdp: FiniteMDP
    grid: np.ndarray  # cost of a collision, [speeds, lanes, seconds]: 0, 0.5 or 1
    state: int

    def after(self, action: int) -> int:
        """The state that an action leads to."""
        pair = self.mdp.pair_index[self.state, action]
        return int(self.mdp.next_state[self.mdp.outcome_ptr[pair]])


def table_of(env: Any, horizon: float = 10.0) -> Table:
    """The time-to-collision table of an environment of highway-env as it is now."""
    theirs = needed("highway_env.envs.common.finite_mdp", "highway", "the time-to-collision table")
    grid = theirs.compute_ttc_grid(env, 1.0, horizon)
    speeds, lanes, seconds = grid.shape
    n, n_actions, config = grid.size, env.action_space.n, env.config
    place = np.indices((*grid.shape, n_actions)).reshape(4, -1)
    following = np.asarray(theirs.transition_model(*place, grid))
    speed, lane, _ = np.unravel_index(np.arange(n), grid.shape)
    paid = config["collision_reward"] * grid.ravel() + config["right_lane_reward"] * lane / max(lanes - 1, 1)
    paid = paid + config["high_speed_reward"] * speed / max(speeds - 1, 1)
    if config["normalize_reward"]:
        low, high = config["collision_reward"], config["high_speed_reward"] + config["right_lane_reward"]
        paid = (paid - low) / (high - low)
    ended = (grid == 1).ravel() | (np.arange(n) % seconds == seconds - 1)
    state = np.repeat(np.arange(n), n_actions)
    begin = int(np.ravel_multi_index((env.vehicle.speed_index, env.vehicle.lane_index[2], 0), grid.shape))
    start = np.zeros(n)
    start[begin] = 1.0
    mdp = FiniteMDP.from_coo(
        state,
        np.tile(np.arange(n_actions), n),
        following,
        np.ones(len(state)),
        paid[following],
        ended[following],
        n_states=n,
        n_actions=n_actions,
        start=start,
    )
    return Table(mdp, grid, begin)


def audit(name: str, episodes: int, gamma: float = 0.8) -> dict[str, Any]:
    """Drive by the table, and set what it says of every step beside what happens.

    Raises:
        ConfigError: an environment whose rewards the table does not state, or no episodes.

    Returns:
        `episodes`, `crashes` among them, `steps`: (what the table says, whether it crashed) → number of steps, and
        `reward`: the mean of what is paid less what the table states, and the largest difference.
    """
    needed("highway_env", "highway", "the time-to-collision table")
    require(name in IDS, "ENV_ID", name, f"allowed are {', '.join(IDS)}, whose rewards the table states")
    require(episodes >= 1, "EPISODES", episodes, "must be at least 1")
    env: Any = gymnasium.make(name)
    steps: Counter[tuple[str, bool]] = Counter()
    crashes, apart = 0, []
    for episode in range(episodes):
        env.reset(seed=episode)
        over, info = False, {}
        while not over:
            table = table_of(env.unwrapped)
            action = int(solve(table.mdp, gamma).greedy[table.state])
            following = table.after(action)
            _, reward, terminated, truncated, info = env.step(action)
            over = terminated or truncated
            steps[SAYS[float(table.grid.ravel()[following])], bool(info["crashed"])] += 1
            apart.append(float(reward) - float(table.mdp.reward[table.mdp.outcome_ptr[_pair(table, action)]]))
        crashes += bool(info["crashed"])
    env.close()
    difference = {"mean": float(np.mean(apart)), "largest": float(np.abs(apart).max())}
    return {"episodes": episodes, "crashes": crashes, "steps": dict(steps), "reward": difference}


def _pair(table: Table, action: int) -> int:
    return int(table.mdp.pair_index[table.state, action])


def main() -> int:
    """Print the audit; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m rlnet.bench.ttc_audit", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("env_id", nargs="?", default="highway-fast-v0", help=" or ".join(IDS))
    parser.add_argument("episodes", nargs="?", default=10, type=int)
    chosen = parser.parse_args()
    return answer(lambda: show(chosen.env_id, chosen.episodes))


def show(name: str, episodes: int) -> int:
    """Print the audit of so many drives; returns the exit code 0."""
    found = audit(name, episodes)
    low, high = wilson(found["crashes"], found["episodes"])
    print(f"{name}, by its table: {found['crashes']} of {found['episodes']} drives crash ({low:.3f} to {high:.3f})")
    for says in SAYS.values():
        seen = {crashed: found["steps"].get((says, crashed), 0) for crashed in (True, False)}
        print(f"  steps of which it says {says:>20}: {sum(seen.values()):>5}, of which {seen[True]} crash")
    print(
        f"  reward paid less stated: {found['reward']['mean']:.3f} on average, {found['reward']['largest']:.3f} at most"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
