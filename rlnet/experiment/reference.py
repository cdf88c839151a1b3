"""The reference policy of an environment of texts: pretrained by supervised steps on demonstrations of the task."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from rlnet.config import Config, require
from rlnet.envs.tokens.tree import NOTHING, Tokens
from rlnet.nets import Network
from rlnet.numerics.random_streams import Streams

FREE, SHARED = 0.1, 3e-3  # rates of Adam where every state has numbers of its own, and where states share them
DIVERGED = 1e4  # −log π of a demonstration, above which no policy is useful
_log = logging.getLogger(__name__)
Known = tuple[dict[str, Tensor], np.ndarray | None]
_known: dict[str, Known] = {}  # in this process, by all that decides it
MOST_KNOWN = 8


def reference_policy(config: Config, network: Network, tokens: Tokens, states: int | None) -> Known:
    """The parameters of π_ref, name → [1, ...], and log π_ref [S, A] of a finite model: the same whoever asks.

    Args:
        config: of the run.
        network: of the policy.
        tokens: the task.
        states: S where observations are state indices; None: they are rows of tokens.
    """
    key = f"{config.env} {config.network} {config.device}"
    if key not in _known:
        if len(_known) >= MOST_KNOWN:
            _known.pop(next(iter(_known)))
        with _one_thread(), torch.enable_grad():
            _known[key] = _pretrained(config, network, tokens, states)
    params, log_reference = _known[key]
    return {name: value.clone() for name, value in params.items()}, log_reference


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have torch round alike however many cores there are: who resumes or scores a run again needs the same policy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _pretrained(config: Config, network: Network, tokens: Tokens, states: int | None) -> Known:
    params = _fitted(config, network, tokens, indexed=states is not None)
    if states is None:
        return params, None
    with torch.no_grad():
        scores = network.apply(params, torch.arange(states, device=config.device).unsqueeze(0))[0]
    return params, scores.double().log_softmax(-1).cpu().numpy()


def _fitted(config: Config, network: Network, tokens: Tokens, indexed: bool) -> dict[str, Tensor]:
    began, how = time.perf_counter(), tokens.reference
    first = network.init(Streams([how.seed], "network", config.device))
    params = {name: x.clone() for name, x in first.items()}
    if how.steps == 0:
        return params
    rate = how.learning_rate
    if rate is None:
        rate = FREE if config.network.name in ("tabular", "linear") else SHARED
    leaves = [x.requires_grad_() for x in params.values()]
    optimizer = torch.optim.Adam(leaves, lr=rate)
    generator, loss = np.random.default_rng([how.seed, 1]), torch.zeros(())
    for _ in range(how.steps):
        obs, action = (
            torch.from_numpy(x).to(config.device) for x in tokens.demonstrations(generator, how.batch, indexed)
        )
        log_pi = network.apply(params, obs.unsqueeze(1)).log_softmax(-1)[:, 0]  # [L, batch, A]
        shown = action != NOTHING
        taken = log_pi.gather(-1, action.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        loss = -(taken * shown).sum() / how.batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    lost = loss.item()
    sound = lost < DIVERGED and all(bool(x.isfinite().all()) for x in params.values())
    allowed = f"the reference policy diverged (−log π of a demonstration is {lost:.3g} at the end); use a smaller one"
    require(sound, "env.reference_rate", rate, allowed)
    text = "the reference policy: %d supervised steps in %.1f s, −log π of a demonstration %.3f at the end"
    _log.info(text, how.steps, time.perf_counter() - began, lost)
    return {name: x.detach() for name, x in params.items()}
