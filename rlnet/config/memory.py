"""Memory estimates: what is available and what a job will allocate, checked before anything is built."""

import math
from collections.abc import Mapping
from pathlib import Path

from rlnet.config.settings import ConfigError

try:
    import resource
except ImportError:  # not a POSIX system: no such limits
    resource = None  # type: ignore[assignment]

_CGROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def available() -> float:
    """Bytes of memory available to this process: of the machine, its control group or `ulimit -v`, the least.

    Infinite where the system does not say.
    """
    free = math.inf
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            if name in ("MemAvailable", "SwapFree"):
                free = (0.0 if math.isinf(free) else free) + 1024.0 * int(rest.split()[0])
    except (OSError, ValueError):  # no Linux
        return math.inf
    for limit, used in _CGROUPS:
        root = Path("/sys/fs/cgroup")
        try:
            most, now = (float((root / name).read_text(encoding="ascii")) for name in (limit, used))
        except (OSError, ValueError):  # no such group, or "max"
            continue
        free = min(free, max(most - now, 0.0))
    return min(free, _left())


def _left() -> float:
    """Bytes of address space that this process has not used of what it is limited to."""
    if resource is None:
        return math.inf
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY:
        return math.inf
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return max(float(most - pages * resource.getpagesize()), 0.0)


def size(count: float) -> str:
    """A number of bytes as text: 1.5 GiB."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB")):
        if count >= 1024.0**power or power == 2:
            return f"{count / 1024.0**power:,.3g} {unit}"
    raise AssertionError


def require_memory(parts: Mapping[str, float]) -> None:
    """Raise ConfigError if the parts of a job (bytes, by the settings that decide them) exceed the available memory.

    The sentence names the part that is the largest.
    """
    need, have = sum(parts.values()), available()
    if need > have:
        driver = max(parts, key=parts.__getitem__)
        of_all = f", of about {size(need)} in all" if len(parts) > 1 else ""
        allowed = (
            f"needs about {size(parts[driver])} of memory{of_all}, and {size(have)} are available; make it smaller"
        )
        raise ConfigError(f"{driver}: {allowed}")
