"""Python API: train, read what was learned, and act by it, in a script or a notebook."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from rlnet.commands.arguments import given_keys, with_stored_overrides
from rlnet.commands.failures import explain
from rlnet.config import CONFIGS, VERSION_BASE, Config, ConfigError, import_named, register
from rlnet.config.trust import check_trusted
from rlnet.config.validation import from_hydra
from rlnet.experiment.run_folder import opened, override_key
from rlnet.experiment.tuned import check_tuned
from rlnet.learning import training_loop
from rlnet.learning.loading import load_trained
from rlnet.learning.policy import Policy
from rlnet.mdp.notebook import html_table


@dataclass(frozen=True, repr=False, eq=False)
class TrainingResult:
    """Result of `train`. M members, S states, A actions."""

    config: Config
    policy: Policy  # of the first member; `member(k)` gives that of another
    log: dict[
        str, np.ndarray
    ]  # every scalar of metrics.csv by name, [rows, M]; step among them; NaN where not computed
    values: dict[str, np.ndarray] | None  # the arrays of values.npz, [M, S] and [M, S, A]; None without a finite model
    comparison: dict[str, Any] | None  # the content of comparison.json; None without a finite model
    folder: Path | None  # of the run, where one was asked for
    _run: training_loop.Result = field(repr=False)

    def member(self, number: int) -> Policy:
        """The policy of one member, 0 .. M − 1."""
        return self.policy.member(number)

    @property
    def scalars(self) -> dict[str, np.ndarray]:
        """The final numbers by name, [M] each."""
        return self._run.scalars

    def __repr__(self) -> str:
        where = "" if self.folder is None else f", folder={str(self.folder)!r}"
        return f"TrainingResult({self._head}{where}: {', '.join(f'{k} {v}' for k, v in self._means)})"

    @property
    def _head(self) -> str:
        return f"{self.config.algo.name} on {self.config.env.label}, γ = {self.config.gamma:g}"

    @property
    def _means(self) -> list[tuple[str, str]]:
        return [(name, f"{float(np.mean(x)):.5g}") for name, x in self.scalars.items()]

    def _repr_html_(self) -> str:
        """A table of the final numbers, means over members, for notebooks."""
        said = (self.comparison or {}).get("verdict", "")
        return f"<p>{escape(str(said))}</p>{html_table(self._head, self._means)}"


def composed(*overrides: str, name: str = "train", **settings: Any) -> Config:
    """Compose a checked config from overrides of the command line, or keyword arguments.

    Args:
        overrides: such as "env=gridworld" or "algo.hyper.huber=1".
        name: of the primary config: train, solve or audit.
        settings: keys without a dot, such as steps=50_000.

    Raises:
        ConfigError: a key, a type or a value that cannot be used.
    """
    given = _given(overrides, settings)
    register()
    import_named(given)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS.resolve()), **VERSION_BASE):
            config = from_hydra(compose(name, overrides=opened(given)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, given)) from error
    tuned = [item.partition("=")[2] for item in given if override_key(item) == "tuned"]
    if tuned and tuned[-1] != "null":
        check_tuned(config, tuned[-1])
    return config


def _given(overrides: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """Overrides and keyword arguments as overrides of the command line."""
    for item in overrides:
        if not isinstance(item, str) or "=" not in item:
            raise ConfigError(f"{item}: must be KEY=VALUE")
    return [*overrides, *(f"{key}={_written(value)}" for key, value in settings.items())]


def _written(value: Any) -> str:
    """A value as text for the command line."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_inside(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple | np.ndarray):
        return "[" + ",".join(_inside(one) for one in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _inside(value: Any) -> str:
    """A value within a list or dictionary, where texts are quoted."""
    return repr(value) if isinstance(value, str) else _written(value)


def load(run: Path | str, member: int = 0, *, trust: bool = False, device: str = "cpu") -> Policy:
    """The policy that a training run has learned, from its folder: `policy(obs)`, `.value(obs)`, `.q(obs)`.

    It is the object that `train(...).policy` is; `policy.member(k)` gives that of another member.

    Args:
        run: the folder.
        member: which member of the population, 0 .. M − 1.
        trust: whether the folder may have code run: modules that its config names. See the README.
        device: where the networks are evaluated: cpu, cuda or cuda:N.

    Raises:
        ConfigError: the folder is not that of a training run, holds no checkpoint that can be used, has no such member,
            or needs to be trusted.
    """
    trained = load_trained(Path(run), trust, device)
    try:
        return Policy(trained, member)
    except ValueError as error:
        raise ConfigError(f"{run}: {error}") from error


def train(
    *overrides: str, folder: Path | str | None = None, on_row: training_loop.OnRow | None = None, **settings: Any
) -> TrainingResult:
    """Train as `rlnet train` does, and return what was learned.

    Args:
        overrides: such as "env=gridworld", "algo=dqn"; "resume=DIR" goes on with a run, whose settings it has.
        folder: where to leave the files of the run; None: nowhere, or where the run is that goes on.
        on_row: called as on_row(step, scores) with each logged row: every scalar as [M], NaN where it was not computed.
            What it raises ends the run.
        settings: keys without a dot, such as steps=50_000, seeds=4, vary={"gamma": [0.9, 0.99]}.

    Raises:
        ConfigError: a key, a type or a value that cannot be used, or a folder that holds a run.
        RunFailed: the run began and could not be finished.
    """
    typed = _given(overrides, settings)
    for item in typed:
        if override_key(item).startswith("hydra"):
            raise ConfigError(
                f"{item}: belongs to the command line; a run of Python is left in folder=, if it is given"
            )
    # Those of a run that goes on come from its folder, in which it goes on where no other is given.
    given = [item for item in with_stored_overrides(typed) if not override_key(item).startswith("hydra.")]
    config = composed(*given)
    if config.resume is not None:
        folder = config.resume if folder is None else folder
        if not config.trust:
            check_trusted(config, f"resume={config.resume}", given_keys(typed))
    if folder is not None:
        return _trained(config, given, Path(folder), True, on_row)
    with tempfile.TemporaryDirectory() as temporary:
        return _trained(config, given, Path(temporary) / "run", False, on_row)


def _trained(
    config: Config, given: Sequence[str], folder: Path, keep: bool, on_row: training_loop.OnRow | None
) -> TrainingResult:
    result = training_loop.train(config, folder, given, on_row)
    values = folder / "values.npz"
    comparison = folder / "comparison.json"
    return TrainingResult(
        config=config,
        policy=Policy(result.run.trained()),
        log=_read_log(folder / "metrics.csv", len(config.member_seeds)),
        values=dict(np.load(values)) if values.exists() else None,
        comparison=json.loads(comparison.read_text(encoding="utf-8")) if comparison.exists() else None,
        folder=folder if keep else None,
        _run=result,
    )


def _read_log(path: Path, members: int) -> dict[str, np.ndarray]:
    """The columns of metrics.csv as [rows, M]; empty cells are NaN."""
    columns = np.genfromtxt(path, delimiter=",", names=True, deletechars="", replace_space=" ", ndmin=1)
    names = columns.dtype.names or ()
    return {name: columns[name].reshape(-1, members) for name in names if name not in ("member", "seed")}
