"""The reference policy of an environment of texts: pretrained by supervised steps on demonstrations of the task.

It is stored in the folder of a run, from where it is read when the run goes on or is scored again.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rlnet.config import Config, require
from rlnet.config.files import regular
from rlnet.envs.tokens.tree import NOTHING, Tokens
from rlnet.experiment.checkpoints import DamagedError, misfit, read_checkpoint, write_sealed
from rlnet.nets import Network
from rlnet.numerics.random_streams import Streams

FILE = "reference.pt"
FREE, SHARED = 0.1, 3e-3  # rates of Adam where every state has numbers of its own, and where states share them
DIVERGED = 1e4  # −log π of a demonstration, above which no policy is useful
_log = logging.getLogger(__name__)
Known = tuple[dict[str, Tensor], np.ndarray | None]
_known: dict[str, Known] = {}  # in this process, by all that decides it
MOST_KNOWN = 8


def reference_policy(
    config: Config, network: Network, tokens: Tokens, states: int | None, folder: Path | None = None
) -> Known:
    """The parameters of π_ref, name → [1, ...], and log π_ref [S, A] of a finite model, determined by the config.

    Args:
        config: of the run.
        network: of the policy.
        tokens: the task.
        states: S where observations are state indices; None: they are rows of tokens.
        folder: of a run that has stored it; where it has not, or the file cannot be used, it is pretrained again.
    """
    if folder is not None:
        try:
            with _one_thread():
                return _with_table(config, network, _read(folder / FILE, config, network), states)
        except DamagedError as error:
            _log.warning("%s; the reference policy is pretrained again", error)
    key = f"{_settings(config)} {config.device}"
    if key not in _known:
        if len(_known) >= MOST_KNOWN:
            _known.pop(next(iter(_known)))
        with _one_thread(), torch.enable_grad():
            params = _fitted(config, network, tokens, indexed=states is not None)
            _known[key] = _with_table(config, network, params, states)
    params, log_reference = _known[key]
    return {name: value.clone() for name, value in params.items()}, log_reference


def write_reference(folder: Path, config: Config, params: Mapping[str, Tensor]) -> Path:
    """Store the parameters of π_ref in the folder of a run, with the settings that they follow from; returns the path.

    Args:
        folder: of the run.
        config: of the run.
        params: name → [1, ...].
    """
    path = folder / FILE
    write_sealed(path, {"settings": _settings(config), "params": dict(params)})
    return path


def _settings(config: Config) -> str:
    """All settings that decide the reference policy, but for the device that it is made on."""
    return json.dumps({"env": asdict(config.env), "network": asdict(config.network)}, sort_keys=True)


def _read(path: Path, config: Config, network: Network) -> dict[str, Tensor]:
    """The parameters in a file of `write_reference`.

    Raises:
        DamagedError: there is none, it is damaged, or that of other settings.
    """
    if not path.is_file():
        raise DamagedError(f"{path}: is missing")
    stored: object = read_checkpoint(regular(path), config.device)
    if not isinstance(stored, Mapping) or stored.get("settings") != _settings(config):
        raise DamagedError(f"{path}: is the reference policy of other settings")
    shapes = {name: torch.empty(1, *shape, device="meta") for name, shape in network.shapes.items()}
    wrong = misfit(shapes, stored.get("params"), "params")
    if wrong is not None:
        raise DamagedError(f"{path}: does not fit this run: {wrong}")
    if not all(bool(x.isfinite().all()) for x in stored["params"].values()):
        raise DamagedError(f"{path}: holds numbers that are not finite")
    return {name: stored["params"][name] for name in network.shapes}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have torch round alike however many cores there are: who resumes or scores a run again needs the same policy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _with_table(config: Config, network: Network, params: dict[str, Tensor], states: int | None) -> Known:
    """Parameters, and log π_ref of all states."""
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
