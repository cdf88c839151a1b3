"""What the tests of losses need: tabular learners whose step is minus the gradient, and the Bellman backup by loops."""

import numpy as np
import torch

from rlnet import algos
from rlnet.algos import AlgorithmContext
from rlnet.config import OptimizerConfig, TabularConfig
from rlnet.data.rollout import Rollout
from rlnet.learning.learner import Learner
from rlnet.mdp import FiniteMDP
from rlnet.nets import Inputs, make_network
from rlnet.policies.distributions import Categorical
from rlnet.policies.exploration import epsilon_greedy

GAMMA = 0.85
EPSILON = 0.3


def learner_for(
    name: str,
    mdp: FiniteMDP,
    given: np.ndarray | None = None,
    members: int = 1,
    dueling: bool = False,
    **options: object,
) -> Learner:
    """A tabular learner with plain gradient descent of rate 1: theta changes by minus the gradient."""
    algorithm = algos.load(name).chosen(options)
    inputs = Inputs(env="test", n_states=mdp.n_states, features=None, size=None)
    available = torch.as_tensor(mdp.available | mdp.terminal[:, None])
    values = (mdp.n_actions + dueling) * options.get("quantiles", 1)
    outputs = {"q": values, "q2": values, "pi": mdp.n_actions, "v": 1, "h": 1}
    context = AlgorithmContext(
        actions=Categorical(mdp.n_actions),
        networks={role: make_network(TabularConfig("tabular"), inputs, outputs[role]) for role in algorithm.roles},
        masked=not bool(available.all()),
        behaviour=epsilon_greedy,
        given_policy=None if given is None else torch.as_tensor(given, dtype=torch.float32)[None],
        options=options,
        dueling=dueling,
    )
    return Learner(algorithm, context, OptimizerConfig("sgd", 1.0), list(range(members)))


def hyper(members: int = 1, **own: float) -> dict[str, torch.Tensor]:
    numbers = {"gamma": GAMMA, "explore": EPSILON, "huber": np.inf, **own}
    return {name: torch.full((members, 1), value) for name, value in numbers.items()}


def uniform_policy(mdp: FiniteMDP) -> np.ndarray:
    return mdp.available / mdp.available.sum(1, keepdims=True).clip(1)


def step_of(learner: Learner, batch: Rollout, **own: float) -> torch.Tensor:
    """How theta [M, P] changes in one step of rate 1."""
    before = learner.theta.clone()
    members = before.shape[0]
    learner.step(batch, hyper(members, **own), torch.ones(members, 1))
    return learner.theta - before


def backed_up(mdp: FiniteMDP, next_value: np.ndarray) -> np.ndarray:
    """r + γ·P·v by plain Python loops over the outcomes: [S, A], 0 where unavailable."""
    q = np.zeros((mdp.n_states, mdp.n_actions))
    for pair in range(mdp.n_pairs):
        s, a = int(mdp.pair_state[pair]), int(mdp.pair_action[pair])
        for k in range(mdp.outcome_ptr[pair], mdp.outcome_ptr[pair + 1]):
            after = 0.0 if mdp.terminated[k] else GAMMA * next_value[mdp.next_state[k]]
            q[s, a] += mdp.probability[k] * (mdp.reward[k] + after)
    return q
