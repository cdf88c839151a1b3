"""Play against a run in the terminal: rlnet play DIR [seat=first|second] [member=0] [search=N] [sample=true]

The run moves by its greedy or most likely action, with algo=alphazero by its search; with sample=true by what it draws.
search=N searches with N simulations, by default with as many as in training; search=0 plays the policy alone. Moves are
typed by name; q ends. trust=true: see the README.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlnet.commands.key_values import on_folder, one_of, truth, whole
from rlnet.config import ConfigError

if TYPE_CHECKING:
    from rlnet.algos.algorithm import Plan
    from rlnet.envs.boards.match import Match
    from rlnet.learning.players import MoveSearch
    from rlnet.learning.policy import Policy
    from rlnet.mdp import Solution

SEATS = {"first": 0, "second": 1}
READERS = {"seat": one_of(*SEATS), "member": whole(0), "search": whole(0), "sample": truth, "trust": truth}
DEFAULTS = {"seat": None, "member": 0, "search": None, "sample": False, "trust": False}
LEAVE = ("q", "quit", "exit")


def main() -> int:
    """Run `rlnet play`: exit code 0 at the end, 2 for a folder that is no run of a game."""
    return on_folder("play", __doc__, READERS, DEFAULTS, _play)


def _play(folder: Path, chosen: dict[str, Any]) -> int:
    from rlnet.commands.api import load
    from rlnet.envs.boards.match import Match
    from rlnet.mdp import solve

    policy = load(folder, chosen["member"], trust=chosen["trust"])
    problem = policy.trained.problem
    if not problem.environment.game:
        raise ConfigError(f"{folder}: {policy.trained.config.env.title()} is no game of two players")
    search = _search(policy, chosen["search"])
    mdp, gamma = problem.environment.mdp, policy.trained.config.gamma
    best = None if mdp is None else solve(mdp, gamma)
    try:
        seat = _asked_seat() if chosen["seat"] is None else SEATS[chosen["seat"]]
        seed = policy.trained.config.seed
        match, rng = Match(problem.environment, seed), np.random.default_rng(seed) if chosen["sample"] else None
        _played(match, _Player(policy, search, rng), seat, best)
    except (EOFError, _Left):
        print("\nThe game was left.")
    return 0


class _Left(Exception):
    """Raised when the person quits."""


def _read(question: str) -> str:
    text = input(question).strip()
    if text.lower() in LEAVE:
        raise _Left
    return text


def _asked_seat() -> int:
    while True:
        text = _read("Do you move first? [y/n] ").lower()
        if text in ("y", "yes", "n", "no"):
            return 0 if text.startswith("y") else 1


def _played(match: "Match", player: "_Player", seat: int, best: "Solution | None") -> None:
    """One game, to its end."""
    print(f"You are {'XO'[seat]}, who moves {'first' if seat == 0 else 'second'}. q leaves the game.")
    while not match.over:
        print(f"\n{match}".rstrip())
        mine, plan = match.player == seat, player.plan(match)
        _say_values(match, player, plan, best, mine)
        if mine:
            match.move(_asked_move(match.parse))
        else:
            action = player.move(match, plan)
            print(f"The run plays {match.names[action]}.")
            match.move(action)
    print(f"\n{match}".rstrip())
    won = match.score[seat]
    result = "You win." if won > 0 else "You lose." if won < 0 else "A draw."
    print(f"{result} Moves: {' '.join(match.moves)}")


@dataclass(frozen=True)
class _Player:
    """The run as a player."""

    policy: "Policy"
    search: "MoveSearch | None"  # by which it moves; None: by the policy alone
    rng: np.random.Generator | None  # of what it draws; None: it takes the best moves

    def plan(self, match: "Match") -> "Plan | None":
        """What its search finds in a position."""
        return None if self.search is None else self.search(np.asarray(match.observation)[None, None])

    def move(self, match: "Match", plan: "Plan | None") -> int:
        """Its move."""
        if plan is None:
            return int(self.policy(match.observation, match.mask, sample=self.rng is not None))
        if self.rng is None:
            return int(plan.policy[0, 0].argmax())
        return int(self.rng.choice(len(match.mask), p=plan.target[0, 0]))


def _search(policy: "Policy", simulations: int | None) -> "MoveSearch | None":
    """The search that was asked for, or that of the run.

    Raises:
        ConfigError: the algorithm has none.
    """
    from threadpoolctl import threadpool_limits

    from rlnet.learning.players import search_of

    if simulations == 0:
        return None
    threadpool_limits(1, user_api="blas")  # products as small as these lose by being shared
    search = search_of(policy.trained, simulations)
    if search is None and simulations is not None:
        allowed = "leave it out, or search=0"
        raise ConfigError(
            f"search={simulations}: algo={policy.trained.config.algo.name} moves without a search; {allowed}"
        )
    return search


def _asked_move(parse: Callable[[str], int]) -> int:
    while True:
        text = _read("Your move: ")
        try:
            return parse(text)
        except ValueError as error:
            print(error)


def _say_values(match: "Match", player: _Player, plan: "Plan | None", best: "Solution | None", mine: bool) -> None:
    """V of the run, and what each move is worth exactly, to the player who moves."""
    who = "you" if mine else "the run"
    learned = float(player.policy.value(match.observation, match.mask))
    said = f"To {who}, to move: V = {_number(learned)} as learned"
    if plan is not None and player.search is not None:
        said += f", {_number(float(plan.value[0, 0]))} by a search of {player.search.simulations} simulations"
    if best is not None and match.state is not None:
        legal = np.flatnonzero(match.mask)
        moves = ", ".join(f"{match.names[action]}: {_number(best.q[match.state, action])}" for action in legal)
        said += f", {_number(best.v[match.state])} exactly; the moves {moves}"
    print(f"{said}.")


def _number(x: float) -> str:
    return f"{x:+.2f}".replace("-", "−").replace(".00", "") if abs(x) > 5e-3 else "0"
