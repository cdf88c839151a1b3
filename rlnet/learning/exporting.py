"""Exporting a learned policy for programs without rlnet: `torch.export` and ONNX, checked against the original."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from rlnet.algos.context import Q, V
from rlnet.config import CausalLMConfig, ConfigError, RunFailed
from rlnet.data.rollout import Observation
from rlnet.experiment.checkpoints import write_whole
from rlnet.experiment.run_files import write_json
from rlnet.learning.export_inputs import (
    action_in_words,
    described,
    inputs_of,
    joint_mask_of,
    rows_of,
    shaped_as,
    taken_of,
)
from rlnet.learning.trained import Trained
from rlnet.numerics.random_streams import Streams, derive_seed

FORMATS = ("torch", "onnx")
FILES = {"torch": "policy.pt2", "onnx": "policy.onnx"}
CHECKED, CLOSE = 1_000, 1e-4  # observations; relative and absolute difference of real numbers
Arrays = Mapping[str, np.ndarray]
Run = Callable[[list[np.ndarray]], list[np.ndarray]]


class Exported(nn.Module):
    """The greedy action, value and Q of one member as a torch module: observations in, a tuple of tensors out.

    Args:
        trained: of one member.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self._trained, self._roles = trained, {role: list(own) for role, own in trained.params.items()}
        for role, own in trained.params.items():
            for name, value in own.items():
                self.register_buffer(_buffer(role, name), value.detach().clone())
        roles = {role.kind for role in trained.algorithm.roles}
        self.outputs = ["action"]
        self.outputs += ["value"] if roles & {V, Q} else []
        self.outputs += ["q"] if Q in roles and trained.problem.environment.n_actions is not None else []

    def forward(self, obs: Tensor | dict[str, Tensor], mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Observations and masks as in `rlnet.learning.export_inputs` → action, value [B], q [B, A]."""
        environment = self._trained.problem.environment
        rows = rows_of(environment, obs)
        trained = replace(self._trained)  # a copy, whose parameters are those of the module
        params = {
            role: {name: self.get_buffer(_buffer(role, name)) for name in own} for role, own in self._roles.items()
        }
        vars(trained)["params"] = params  # plain tensors, which can be traced, in place of views
        available = trained.problem.available
        if mask is not None:
            mask = joint_mask_of(environment, mask)
        elif available is not None:
            mask = available[rows]
        return _answers(trained, Observation(rows.unsqueeze(0), None if mask is None else mask.unsqueeze(0)), self)


def _answers(trained: Trained, seen: Observation, module: Exported) -> tuple[Tensor, ...]:
    """The outputs of a module by name for observations [1, B, ...]."""
    found = {"value": trained.value(seen), "q": trained.q(seen)}
    action = taken_of(trained.problem.environment, trained.best(seen).squeeze(0))
    return tuple(action if name == "action" else cast(Tensor, found[name]).squeeze(0) for name in module.outputs)


def export(trained: Trained, folder: Path, formats: tuple[str, ...]) -> tuple[list[Path], dict[str, Any]]:
    """Export the policy of one member, and check it on `CHECKED` observations.

    Args:
        trained: of one member, see `Trained.of`.
        folder: of the files; created if missing.
        formats: of FORMATS.

    Returns:
        The files, and the content of policy.json: inputs, outputs and checks.

    Raises:
        ConfigError: it cannot be exported, or a package is missing.
        RunFailed: the exported policy chooses other actions than the original.
    """
    _check(trained, formats)
    module = Exported(trained).eval()
    rows = observations(trained)
    wanted = _original(trained, module, rows)
    arrays, parts = inputs_of(trained.problem.environment, rows)
    shaped = partial(shaped_as, parts)
    batch = torch.export.Dim("batch", min=1, max=2**20)
    with _quiet(), torch.no_grad():
        example = shaped([torch.from_numpy(array[:4]) for array in arrays.values()])
        shapes = dict(zip(rows, shaped([{0: batch} for _ in arrays]), strict=True))
        program = torch.export.export(module, tuple(example), dynamic_shapes=shapes, strict=False)
    files, checks = [], {}
    folder.mkdir(exist_ok=True)
    for name in formats:
        content, run = _torch(program, shaped) if name == "torch" else _onnx(program, list(arrays), module.outputs)
        checks[name] = _compared(name, run, arrays, wanted)
        files.append(folder / FILES[name])
        write_whole(files[-1], partial(_write, content))
    about = _about(trained, arrays, parts, wanted) | {"checked": checks}
    write_json(folder / "policy.json", about)
    return [*files, folder / "policy.json"], about


def _write(content: bytes, part: Path) -> None:
    part.write_bytes(content)


def _buffer(role: str, name: str) -> str:
    return f"{role}__{name}".replace(".", "__")


def _check(trained: Trained, formats: tuple[str, ...]) -> None:
    config = trained.config
    if isinstance(config.network, CausalLMConfig):
        raise ConfigError("network=causal_lm: a language model is not exported here; use the export of transformers")
    if "onnx" in formats:
        for name in ("onnx", "onnxscript", "onnxruntime"):
            try:
                import_module(name)
            except ImportError as error:
                missing = f"{name} is not installed; pip install 'rlnet[onnx]', or use format=torch"
                raise ConfigError(f"format=onnx: {missing}") from error


def observations(trained: Trained) -> dict[str, np.ndarray]:
    """Sample `CHECKED` observations, and action masks if any, by the policy with its exploration."""
    environment, envs = trained.problem.environment, 10
    seed = derive_seed(0, "evaluation") % 2**31
    simulation: Any = environment.simulate([seed], envs)
    streams = Streams([seed], "behaviour")
    found: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    try:
        obs, mask = simulation.reset(), simulation.mask
        while len(found) < CHECKED // envs:
            found.append(np.array(obs[0]))
            allowed = None if mask is None else torch.from_numpy(np.array(mask))
            if mask is not None:
                masks.append(np.array(mask[0]))
            seen = Observation(torch.from_numpy(np.array(obs)), allowed)
            action = trained.context.actions.sample(
                trained.acting(seen), streams.uniform(envs, *trained.context.actions.shape)
            )
            step = simulation.step(action.numpy())
            obs, mask = step.obs, step.mask
    finally:
        simulation.close()
    rows = {"obs": np.concatenate(found)}
    if environment.n_states is not None:  # other states too
        rows["obs"] = np.arange(CHECKED) % environment.n_states
    if masks and trained.problem.available is None:
        rows["mask"] = np.concatenate(masks)
    return rows


def _original(trained: Trained, module: Exported, rows: Arrays) -> list[np.ndarray]:
    """Outputs of the original policy."""
    mask = torch.from_numpy(rows["mask"])[None] if "mask" in rows else None
    obs = torch.from_numpy(rows["obs"])
    if trained.problem.available is not None:
        mask = trained.problem.available[obs][None]
    return [x.numpy() for x in _answers(trained, Observation(obs[None], mask), module)]


def _torch(program: Any, shaped: Callable[[list[Any]], tuple[Any, ...]]) -> tuple[bytes, Run]:
    buffer = BytesIO()
    with _quiet():
        torch.export.save(program, buffer)
        module = torch.export.load(BytesIO(buffer.getvalue())).module()

    def run(rows: list[np.ndarray]) -> list[np.ndarray]:
        return [tensor.detach().numpy() for tensor in module(*shaped([torch.from_numpy(array) for array in rows]))]

    return buffer.getvalue(), run


def _onnx(program: Any, inputs: list[str], outputs: list[str]) -> tuple[bytes, Run]:
    runtime = import_module("onnxruntime")
    with _quiet():
        made = torch.onnx.export(program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs)
        content = cast(Any, made).model_proto.SerializeToString()
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(rows: list[np.ndarray]) -> list[np.ndarray]:
        return list(session.run(outputs, dict(zip(inputs, rows, strict=True))))

    return content, run


def _compared(name: str, run: Run, rows: Arrays, wanted: list[np.ndarray]) -> dict[str, Any]:
    """The largest differences from the original, one observation alone among them.

    Raises:
        RunFailed: another action, or numbers that differ by more than rounding.
    """
    arrays = list(rows.values())
    found, alone = run(arrays), run([array[:1] for array in arrays])
    discrete = wanted[0].dtype.kind in "iu"
    for some in (found, alone):
        size = len(some[0])
        if discrete:
            wrong = (some[0] != wanted[0][:size]).reshape(size, -1).any(1)
        else:
            wrong = ~np.isclose(some[0], wanted[0][:size], rtol=CLOSE, atol=CLOSE).reshape(size, -1).all(1)
        if wrong.any():
            others = f"{int(wrong.sum())} of {size} observations"
            raise RunFailed(f"format={name}: the exported policy acts otherwise in {others}")
    for own, theirs in zip(found[1:], wanted[1:], strict=True):
        if not np.allclose(own, theirs, rtol=CLOSE, atol=CLOSE):
            raise RunFailed(f"format={name}: the values of the exported policy differ from those of the original")
    with np.errstate(invalid="ignore"):
        apart = [np.nanmax(np.abs(a.astype(np.float64) - b), initial=0.0) for a, b in zip(found, wanted, strict=True)]
    return {"observations": len(found[0]), "other_actions": 0, "largest_difference": float(max(apart))}


def _about(trained: Trained, inputs: Arrays, parts: tuple[str, ...], wanted: list[np.ndarray]) -> dict[str, Any]:
    environment, config = trained.problem.environment, trained.config
    outputs = dict(zip(Exported(trained).outputs, wanted, strict=True))
    return {
        "env": config.env.label,
        "algo": config.algo.name,
        "member": None if trained.members is None else trained.members[0],
        "gamma": float(trained.hyper["gamma"][0, 0]),
        "observation": described(environment, parts),
        "action": action_in_words(environment),
        "inputs": {name: _shape(array) for name, array in inputs.items()},
        "outputs": {name: _shape(array) for name, array in outputs.items()},
    }


def _shape(array: np.ndarray) -> dict[str, Any]:
    return {"type": str(array.dtype), "shape": ["batch", *array.shape[1:]]}


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager: silence warnings and logs of the torch exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
