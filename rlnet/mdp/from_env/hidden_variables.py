"""Detection of hidden variables: state that no observation shows and a step may depend on.

Where one observation was seen with two values of a variable, the variable is hidden. It does no harm if a step does
the same whatever its value: a copy whose variable is changed, with the same random numbers, must step as one whose is
not. Numbers are also moved on by up to 10⁹, so that a time that no walk would reach is reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlnet.mdp.errors import NoModelError
from rlnet.mdp.from_env.object_graph import Path, get, put, same, saved, spelled
from rlnet.mdp.from_env.tested_env import NOT_MARKOV, Result, Subject

AHEAD = (1, 2, 5, 10, 100, 1_000, 10_000, 1_000_000, 1_000_000_000)
POOL = 3  # values that are kept of each hidden variable
MOST_VARIABLES = 12  # that are changed at one place


class Hidden:
    """Searches for hidden variables of an environment during a walk.

    Args:
        subject: the environment.
        by_chance: whether its model allows chance; otherwise a step that draws random numbers is refused.
        reference: how a step would be by the code that the model belongs to, (copy, action) → Result, or None.
        looks: so many snapshots are taken.
    """

    def __init__(self, subject: Subject, by_chance: bool, reference: Any = None, looks: int = 600) -> None:
        self._subject, self._by_chance, self._reference, self._looks = subject, by_chance, reference, looks
        self._first: dict[int, dict[Path, Any]] = {}
        self.pool: dict[Path, list[Any]] = {}
        self._resets = self._turn = 0
        self.truncates = False

    def begin(self, env: Any, state: int) -> None:
        """Note that an episode has begun in a state."""
        self._resets += 1
        if self._resets <= self._looks // 2:
            self._look(env, state)
        if self._resets % 25 == 0 or self._resets in (3, 10):
            self._probe_reset(env)

    def probe(self, env: Any, state: int, action: int) -> None:
        """Before a step: test whether it is the same with other values of the hidden variables.

        Raises:
            NoModelError: it is not.
        """
        self._look(env, state)
        plain = self._step(env, action)
        if self._reference is not None:
            self._compare(env, state, action, plain)
        if self._step(env, action)[0] != plain[0]:
            if self._by_chance:
                return  # of a kind that cannot be repeated, so nothing can be compared
            raise NoModelError(
                f"{self._subject.name} has no model (mdp or P) and acts by chance: two copies with the same random "
                f"numbers did {_told(plain[0])} or otherwise in state {state} by action {action}"
            )
        for path, value in self._variants(env):
            other = self._step(env, action, path, value)
            if other is None or other[0] == plain[0]:
                continue
            if other[0]._replace(truncated=False) == plain[0]._replace(truncated=False):
                self.truncates = True
                continue
            raise self.decides(path, value, state, action, f"{_told(plain[0])}, or {_told(other[0])}")

    def decides(self, path: Path, value: Any, state: int, action: int, what: str) -> NoModelError:
        """The error that names a hidden variable."""
        return NoModelError(
            f"{self._subject.name}: {NOT_MARKOV}: {spelled(path)}, which it does not show, "
            f"decides what action {action} does in state {state} (with {_short(value)}: {what})"
        )

    def _look(self, env: Any, state: int) -> None:
        """Compare the variables with those of the first time in this state."""
        self._looks -= 1
        if self._looks < 0:
            return
        now = self._subject.look(env).variables
        before = self._first.setdefault(state, now)
        if before is now:
            return
        for path, value in now.items():
            if path in before and not same(value, before[path]):
                values = self.pool.setdefault(path, [])
                for found in (before[path], value):
                    if len(values) < POOL and not any(same(found, x) for x in values):
                        values.append(found)

    def disturb(self, env: Any) -> tuple[Path, Any] | None:
        """Change one hidden variable; returns the variable and its value, or None where nothing was changed."""
        if not self.pool:
            return None
        self._turn += 1
        path = list(self.pool)[self._turn % min(len(self.pool), MOST_VARIABLES)]
        others = [value for name, value in self._variants(env, everything=True) if name == path]
        if not others:
            return None
        value = others[self._turn // len(self.pool) % len(others)]
        return (path, value) if put(env, path, value) else None

    def _variants(self, env: Any, everything: bool = False) -> Iterator[tuple[Path, Any]]:
        """(path, another value) for the hidden variables: those seen, and of those ahead all or the next few."""
        self._turn += 1
        for path in list(self.pool)[:MOST_VARIABLES]:
            try:
                now = get(env, path)
            except (KeyError, IndexError, AttributeError, TypeError):
                continue
            yield from ((path, value) for value in self.pool[path] if not same(value, now))
            if isinstance(now, bool):
                yield path, not now
            elif isinstance(now, int | float) or getattr(getattr(now, "dtype", None), "kind", "") in ("i", "u", "f"):
                for ahead in AHEAD if everything else AHEAD[self._turn % 3 :: 3]:
                    try:
                        yield path, now + ahead
                    except (OverflowError, TypeError):
                        break

    def _step(self, env: Any, action: int, path: Path | None = None, value: Any = None, own: bool = False) -> Any:
        """(Result, the generators' states after it) of a copy, perhaps changed; None where the change is impossible."""
        subject = self._subject
        with subject.undisturbed():
            twin = subject.copied(env)
            if path is None:
                generators = subject.generators(twin)
                result = self._reference(twin, action) if own else subject.step(twin, action)
                return result, [saved(x)[0] for x in generators]
            if not put(twin, path, value):
                return None
            try:
                return subject.step(twin, action), None
            except NoModelError:  # a value that the code cannot stand says nothing about those that it can
                return None

    def _compare(self, env: Any, state: int, action: int, plain: tuple) -> None:
        """The same step by the code that the model belongs to."""
        try:
            other, states = self._step(env, action, own=True)
        except NoModelError:
            self._reference = None  # its variables are not those that this code needs
            return
        place = f"in state {state} by action {action}"
        if other._replace(truncated=False) != plain[0]._replace(truncated=False):
            raise NoModelError(
                f"{self._subject.name}: its model belongs to other code, which does {_told(other)} {place}, where "
                f"the environment does {_told(plain[0])}"
            )
        if states != plain[1]:
            raise NoModelError(
                f"{self._subject.name}: the environment draws other random numbers than the code that its model "
                f"belongs to ({place})"
            )

    def _probe_reset(self, env: Any) -> None:
        """Test whether an episode begins the same with other values of the hidden variables."""
        subject = self._subject

        def first(path: Path | None = None, value: Any = None) -> Any:
            with subject.undisturbed():
                twin = subject.copied(env)
                if path is not None and not put(twin, path, value):
                    return None
                try:
                    return subject.reset(twin)
                except NoModelError:
                    return None

        plain = first()
        if plain is None or first() != plain:
            return
        for path, value in self._variants(env):
            other = first(path, value)
            if other is not None and other != plain:
                raise NoModelError(
                    f"{subject.name}: {NOT_MARKOV}: {spelled(path)}, which it does not show, "
                    f"decides where an episode begins ({_short(plain)}, or with {_short(value)} there {_short(other)})"
                )


def _told(result: Result) -> str:
    end = ", end" if result.terminated else ""
    return f"reward {result.reward:.8g}, observation {_short(result.observation)}{end}"


def _short(x: Any) -> str:
    text = repr(x)
    return text if len(text) <= 40 else f"{text[:37]}..."
