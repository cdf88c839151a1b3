"""The job of `rlnet audit`: build the simulators of an environment, audit them, write audit.json."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode

from rlnet.audit.audit import Audited, Finding, audit
from rlnet.audit.rows import RowSource
from rlnet.audit.sources import SINGLE_PRECISION, PopulationSource, SingleSource, Source, VectorSource
from rlnet.config import AuditConfig, ConfigError, EnvConfig
from rlnet.envs import Environment, GymnasiumConfig, TabularEnv, TabularVectorEnv, from_model, make
from rlnet.envs.make import made_with
from rlnet.envs.state_rows import StateRows
from rlnet.envs.wrapping import wrapped
from rlnet.experiment.run_files import write_json
from rlnet.experiment.sizes import require_auditable
from rlnet.mdp import FiniteMDP
from rlnet.mdp.from_env.from_gymnasium import claimed


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
        ConfigError: the environment has no finite model, not even one that it claims, or cannot be made.
    """
    environment = make(config.env)
    mdp, why, limit = environment.mdp, environment.no_model, environment.max_steps
    if mdp is None:
        mdp = _claimed(config.env, why)
        environment = from_model(config.env.name, mdp, None, limit)
    if environment.grid is not None:
        raise ConfigError(f"{config.env.title()}: its model is approximate, so its simulator does not agree with it")
    require_auditable(mdp, config.env.title())
    sources = _sources(config, environment, mdp)
    audits = []
    for build in sources:
        source, level = build(), config.level / len(sources)  # `level` holds for all of them together
        if isinstance(environment.states, StateRows):
            source = RowSource(source, environment.states, mdp, config.env.title())
        audits.append(audit(mdp, source, limit, config.samples, level=level, seed=config.seed))
        if why and source.name == "single":  # what the trial of the model found, which may hide from a walk
            refuted = Finding("model", "a model of what is stepped", why, 1)
            audits[-1] = replace(audits[-1], findings=[*audits[-1].findings, refuted])
    result = AuditResult(config, limit, audits, [], folder / "audit.json")
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


def _claimed(env: EnvConfig, why: str | None) -> FiniteMDP:
    """The model that an environment claims to have, but that was not believed, for the reason `why`."""
    model = None
    if isinstance(env, GymnasiumConfig):
        one = wrapped(gymnasium.make(env.id, **made_with(env)), env.wrappers)
        model = claimed(one)
        one.close()
    if model is None:
        said = f" ({why})" if why else ""
        raise ConfigError(f"{env.title()}: has no finite model that its simulator could be tested against{said}")
    return model


def _sources(config: AuditConfig, environment: Environment, mdp: FiniteMDP) -> list[Callable[[], Source]]:
    """Factories of all simulators of an environment."""
    seed, limit = config.seed, environment.max_steps

    def population() -> Source:
        return PopulationSource("population", environment.simulate([seed, seed + 1], config.envs))

    if isinstance(config.env, GymnasiumConfig):
        return [population, *_gymnasium_sources(config, config.env)]

    def single() -> Source:
        return SingleSource("single", TabularEnv(mdp, max_episode_steps=limit), seed)

    def vector(mode: AutoresetMode) -> Callable[[], Source]:
        def build() -> Source:
            env = TabularVectorEnv(mdp, config.envs, max_episode_steps=limit, autoreset_mode=mode)
            return VectorSource(_named(mode), env, seed, SINGLE_PRECISION)

        return build

    return [population, single, *map(vector, AutoresetMode)]


def _gymnasium_sources(config: AuditConfig, env: GymnasiumConfig) -> list[Callable[[], Source]]:
    """Factories of the environment's own code, alone and in Gymnasium's vector forms."""
    seed, options = config.seed, made_with(env)
    one = wrapped(gymnasium.make(env.id, **options), env.wrappers)
    vector_options = {"vectorization_mode": "sync", "wrappers": [partial(wrapped, wrappers=env.wrappers)], **options}

    def vector(mode: AutoresetMode) -> Callable[[], Source]:
        def build() -> Source:
            many = gymnasium.make_vec(env.id, config.envs, vector_kwargs={"autoreset_mode": mode}, **vector_options)
            return VectorSource(_named(mode), many, seed)

        return build

    return [lambda: SingleSource("single", one, seed), *map(vector, AutoresetMode)]


def _named(mode: AutoresetMode) -> str:
    return f"vector {mode.value}"
