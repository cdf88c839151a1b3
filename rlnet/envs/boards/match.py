"""One game that is played move by move: what both players see, may do and have won."""

import numpy as np

from rlnet.envs.base import Environment
from rlnet.envs.boards.drawing import drawn_text
from rlnet.envs.boards.simulation import planes


class Match:
    """A game of an environment, from its start. Player 0 moves first.

    Args:
        environment: of a game.
        seed: of what is drawn, where a model has chance in it.

    Raises:
        ValueError: the environment is no game.
    """

    def __init__(self, environment: Environment, seed: int = 0) -> None:
        if not environment.game:
            raise ValueError(f"env={environment.name}: is no game of two players")
        self._environment, self._rng = environment, np.random.default_rng(seed)
        mdp, board = environment.mdp, environment.board
        self.state: int | None = None  # of the model, where there is one
        if mdp is not None:
            self.state = int(self._rng.choice(mdp.n_states, p=mdp.start))
        self.cells = None if board is None else board.rules.start()  # int8 [C] of a board, in the view of who moves
        self.player, self.over = 0, False
        self.score = np.zeros(2)  # rewards of both players so far
        self.moves: list[str] = []  # so far, by name

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each action."""
        environment = self._environment
        if environment.board is not None:
            return environment.board.rules.move_names
        given = environment.mdp.action_labels if environment.mdp is not None else None
        return given or tuple(map(str, range(environment.n_actions or 0)))

    @property
    def observation(self) -> int | np.ndarray:
        """What a policy is asked about: the number of a state, or the `planes` of a board."""
        if self.state is not None:
            return self.state
        assert self.cells is not None  # a game without a model is one on a board
        return planes(self.cells)

    @property
    def mask(self) -> np.ndarray:
        """The legal actions: bool [A]."""
        environment = self._environment
        if environment.mdp is not None:
            return environment.mdp.available[self.state].copy()
        assert environment.board is not None
        assert self.cells is not None
        return environment.board.rules.legal(self.cells[None])[0]

    def parse(self, text: str) -> int:
        """The legal action that somebody typed.

        Raises:
            ValueError: there is no such move, or it is not legal now.
        """
        legal = [self.names[action] for action in np.flatnonzero(self.mask)]
        wanted = "".join(text.lower().split())
        for action, name in enumerate(self.names):
            if "".join(name.lower().split()) == wanted and self.mask[action]:
                return action
        raise ValueError(f"{text.strip()}: no legal move; there are {', '.join(legal)}")

    def move(self, action: int) -> None:
        """Play a legal action of the player who moves. ValueError where it is not legal, or the game is over."""
        if self.over or not 0 <= action < len(self.mask) or not self.mask[action]:
            raise ValueError(f"action {action} is not legal")
        self.moves.append(self.names[action])
        mdp, board, sign, who = self._environment.mdp, self._environment.board, -1, self.player
        if mdp is not None:
            pair = mdp.pair_index[self.state, action]
            begin, end = mdp.outcome_ptr[pair], mdp.outcome_ptr[pair + 1]
            k = int(begin + self._rng.choice(end - begin, p=mdp.probability[begin:end]))
            reward, self.over = float(mdp.reward[k]), bool(mdp.terminated[k])
            self.state, sign = int(mdp.next_state[k]), 1 if mdp.sign is None else int(mdp.sign[k])
        if board is not None:
            assert self.cells is not None
            cells, rewards, ends = board.rules.play(self.cells[None], np.array([action]))
            self.cells, reward, self.over = cells[0], float(rewards[0]), bool(ends[0])
        self.score += np.array([reward, -reward]) if who == 0 else np.array([-reward, reward])
        self.player = who if sign > 0 else 1 - who

    def __str__(self) -> str:
        """The position as text."""
        board, mdp = self._environment.board, self._environment.mdp
        if board is not None:
            assert self.cells is not None
            return drawn_text(board.rules, self.cells, self.player == 1)
        if self.over:
            return ""
        labels = None if mdp is None else mdp.labels
        return f"state {self.state}" if labels is None or self.state is None else labels[self.state]
