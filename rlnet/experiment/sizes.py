"""Memory checks of a job once its numbers of states and actions are known, before anything is solved."""

from rlnet.config.memory import require_memory
from rlnet.mdp import FiniteMDP

# Bytes, at least, that are set aside beside the model.
PER_SOLVED = 16  # of a cell (s, a) of an exact solution: q and the policy
PER_VISIT = 8  # of a cell of a member: how often it was visited
PER_SCORED = 32  # of a cell of a member that is scored: learned values and policy, and what they are compared with
PER_ENTRY = 20  # of a cell of a member whose network is a table: value, gradient, two moments, what was sound
PER_EXPECTED = 300  # of an outcome that an audit looks up


def require_solvable(mdp: FiniteMDP, title: str, problems: int = 1) -> None:
    """Raise ConfigError where exact solutions of so many problems of a model would not fit into memory.

    Args:
        mdp: the model.
        title: how messages name the environment.
        problems: how many discounts, say.
    """
    require_memory({_cells(title, mdp.n_states, mdp.n_actions): PER_SOLVED * problems * _count(mdp)})


def require_trainable(title: str, states: int, actions: int, members: int, *, scored: bool, table: bool) -> None:
    """Raise ConfigError where what is kept of each state and action for each member would not fit into memory.

    Args:
        title: how messages name the environment.
        states, actions: S and A.
        members: M.
        scored: whether there is an exact solution.
        table: whether networks are tables.
    """
    each = PER_VISIT + PER_SCORED * scored + PER_ENTRY * table
    many = f" × {members} members" if members > 1 else ""
    require_memory({_cells(title, states, actions) + many: float(each) * states * actions * members})


def require_auditable(mdp: FiniteMDP, title: str) -> None:
    """Raise ConfigError where what an audit has to look up would not fit into memory."""
    expected = f"{title}: {mdp.n_outcomes} outcomes of the model"
    cells = _cells(title, mdp.n_states, mdp.n_actions)
    require_memory({cells: PER_SOLVED * _count(mdp), expected: float(PER_EXPECTED) * mdp.n_outcomes})


def _cells(title: str, states: int, actions: int) -> str:
    return f"{title}: {states} states × {actions} actions"


def _count(mdp: FiniteMDP) -> float:
    return float(mdp.n_states) * mdp.n_actions
