"""From the config of an audit to its simulators, and to audit.json: what `scripts/audit.py` does."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode

from rlnet.audit.audit import Audited, audit
from rlnet.audit.sources import SINGLE_PRECISION, PopulationSource, SingleSource, Source, VectorSource
from rlnet.config import AuditConfig, ConfigError, GymnasiumConfig
from rlnet.envs import Environment, TabularEnv, TabularVectorEnv, make
from rlnet.record import write_json


@dataclass(frozen=True)
class AuditResult:
    """The audits of all simulators of an environment."""

    config: AuditConfig
    limit: int | None  # the time limit that should hold
    audits: list[Audited]
    notes: list[str]
    file: Path

    @property
    def differences(self) -> int:
        """The number of findings."""
        return sum(len(one.findings) for one in self.audits)


def audit_and_write(config: AuditConfig, folder: Path) -> AuditResult:
    """Audit every simulator of an environment against its model, and write audit.json.

    Raises:
        ConfigError: the environment has no finite model, or cannot be made.
    """
    environment = make(config.env)
    if environment.mdp is None:
        raise ConfigError(f"env={config.env.name}: has no finite model that its simulator could be tested against")
    sources, notes = _sources(config, environment)
    audits = []
    for build in sources:
        source = build()
        options = {"level": config.level / len(sources), "seed": config.seed}  # `level` holds for all of them together
        audits.append(audit(environment.mdp, source, environment.max_steps, config.samples, **options))
    result = AuditResult(config, environment.max_steps, audits, notes, folder / "audit.json")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(result.file, document(result))
    return result


def document(result: AuditResult) -> dict[str, Any]:
    """The content of audit.json."""
    return {
        "env": result.config.env.name,
        "samples": result.config.samples,
        "level": result.config.level,
        "time_limit": result.limit,
        "agree": result.differences == 0,
        "simulators": [asdict(one) for one in result.audits],
        "notes": result.notes,
    }


def _sources(config: AuditConfig, environment: Environment) -> tuple[list[Callable[[], Source]], list[str]]:
    """How to build each simulator, and remarks on what there is none of."""
    seed, mdp, limit = config.seed, environment.mdp, environment.max_steps

    def population() -> Source:
        return PopulationSource("population", environment.simulate([seed, seed + 1], config.envs))

    if isinstance(config.env, GymnasiumConfig):
        own, note = _gymnasium_sources(config)
        return [population, *own], note

    def single() -> Source:
        return SingleSource("single", TabularEnv(mdp, max_episode_steps=limit), seed)

    def vector(mode: AutoresetMode) -> Callable[[], Source]:
        def build() -> Source:
            env = TabularVectorEnv(mdp, config.envs, max_episode_steps=limit, autoreset_mode=mode)
            return VectorSource(_named(mode), env, seed, SINGLE_PRECISION)

        return build

    return [population, single, *map(vector, AutoresetMode)], []


def _gymnasium_sources(config: AuditConfig) -> tuple[list[Callable[[], Source]], list[str]]:
    """The environment's own code, alone and in Gymnasium's vectors."""
    env, seed = config.env, config.seed
    options: dict[str, Any] = dict(env.kwargs)
    if env.max_episode_steps is not None:
        options["max_episode_steps"] = env.max_episode_steps
    one = gymnasium.make(env.id, **options)
    inner = one.unwrapped
    if getattr(inner, "mdp", None) is None and getattr(inner, "P", None) is None:
        note = f"{env.id}: its model was found by exploring, which numbers the states anew; its own code is not audited"
        return [], [note]

    def vector(mode: AutoresetMode) -> Callable[[], Source]:
        def build() -> Source:
            many = gymnasium.make_vec(
                env.id, config.envs, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **options
            )
            return VectorSource(_named(mode), many, seed)

        return build

    return [lambda: SingleSource("single", one, seed), *map(vector, AutoresetMode)], []


def _named(mode: AutoresetMode) -> str:
    return f"vector {mode.value}"
