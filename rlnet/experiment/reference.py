"""The reference policy of an environment of texts: pretrained by supervised steps on demonstrations of the task."""

import logging
import time

import numpy as np
import torch
from torch import Tensor

from rlnet.config import Config
from rlnet.envs.tokens.tree import NOTHING, Tokens
from rlnet.nets import Network
from rlnet.numerics.random_streams import Streams

FREE, SHARED = 0.1, 3e-3  # rates of Adam where every state has numbers of its own, and where states share them
_log = logging.getLogger(__name__)
_known: dict[str, dict[str, Tensor]] = {}  # in this process, by all that decides it


def reference_policy(config: Config, network: Network, tokens: Tokens, indexed: bool) -> dict[str, Tensor]:
    """The parameters of π_ref, name → [1, ...]: the same for the same settings, whoever asks.

    Args:
        config: of the run.
        network: of the policy.
        tokens: the task.
        indexed: whether observations are state indices; else they are rows of tokens.
    """
    key = f"{config.env} {config.network} {torch.get_num_threads()}"
    if key not in _known:
        if len(_known) >= 8:
            _known.pop(next(iter(_known)))
        _known[key] = _pretrained(config, network, tokens, indexed)
    return {name: value.clone() for name, value in _known[key].items()}


def _pretrained(config: Config, network: Network, tokens: Tokens, indexed: bool) -> dict[str, Tensor]:
    began, how = time.perf_counter(), tokens.reference
    params = {name: x.clone() for name, x in network.init(Streams([how.seed], "network")).items()}
    if how.steps == 0:
        return params
    rate = how.learning_rate
    if rate is None:
        rate = FREE if config.network.name in ("tabular", "linear") else SHARED
    leaves = [x.requires_grad_() for x in params.values()]
    optimizer = torch.optim.Adam(leaves, lr=rate)
    generator, loss = np.random.default_rng([how.seed, 1]), torch.zeros(())
    for _ in range(how.steps):
        obs, action = (torch.from_numpy(x) for x in tokens.demonstrations(generator, how.batch, indexed))
        log_pi = network.apply(params, obs.unsqueeze(1)).log_softmax(-1)[:, 0]  # [L, batch, A]
        shown = action != NOTHING
        taken = log_pi.gather(-1, action.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        loss = -(taken * shown).sum() / how.batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    text = "the reference policy: %d supervised steps in %.1f s, −log π of a demonstration %.3f at the end"
    _log.info(text, how.steps, time.perf_counter() - began, loss.item())
    return {name: x.detach() for name, x in params.items()}
