"""Memory of jobs, at least, by the settings that decide it: estimated before anything is built."""

from itertools import pairwise

from rlnet.config import AuditConfig, CausalLMConfig, Config, MlpConfig, ReplayConfig, SolveConfig, leaves

# Bytes, at least: of an outcome of a model; of a member; of a transition; of a weight, its gradient and Adam's moments.
PER_OUTCOME, PER_MEMBER_STATE, PER_ROW, PER_WEIGHT = 200, 2**12, 16, 16
PER_ENVIRONMENT = 100  # of an environment of an audit, its observation and counters


def memory_of(config: Config | SolveConfig | AuditConfig) -> dict[str, float]:
    """A lower bound on the memory of a job in bytes, by the settings that decide it."""
    parts = {settings: PER_OUTCOME * count for settings, count in config.env.outcomes().items()}
    if isinstance(config, AuditConfig):
        parts[f"envs={config.envs}"] = PER_ENVIRONMENT * float(config.envs)
    if not isinstance(config, Config):
        return parts
    members = float(config.seeds)
    for values in leaves(config.vary).values():
        members *= len(values) if isinstance(values, list) else 1
    shared = f"seeds={config.seeds}" + (f" × vary = {members:.0f} members" if members > config.seeds else "")
    parts[shared] = PER_MEMBER_STATE * members
    each = f"{shared} × " if members > 1 else ""
    algo, network = config.algo, config.network
    parts[f"{each}algo.envs={algo.envs} × algo.rollout={algo.rollout}"] = PER_ROW * members * algo.envs * algo.rollout
    if isinstance(algo, ReplayConfig):
        parts[f"{each}algo.capacity={algo.capacity}"] = PER_ROW * members * algo.capacity
        parts[f"{each}algo.batch={algo.batch}"] = PER_ROW * members * algo.batch * algo.n_step
    if isinstance(network, MlpConfig):
        weights = sum(float(a) * b for a, b in pairwise(network.hidden)) + float(sum(network.hidden))
        parts[f"{each}network.hidden={list(network.hidden)}"] = PER_WEIGHT * members * weights
    if isinstance(network, CausalLMConfig):
        each_layer = 4.0 * network.hidden_size**2 + 3.0 * network.hidden_size * network.intermediate_size
        parts[f"{each}network.hidden_size={network.hidden_size}"] = PER_WEIGHT * members * network.layers * each_layer
    return parts
