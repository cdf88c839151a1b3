"""Periodic triggers for logging, comparison and checkpoints, and the turns between which a run can be interrupted."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)
TURN = 0.5  # seconds of updates between two checks for signals
GRACE = 1.0  # seconds of comparison that are always allowed
SAVING_GRACE, SAVING_SHARE = 10.0, 0.1  # seconds of writing checkpoints that are, and the share of the run's time
COMPARING = (
    "comparing with the exact solution takes {last:.2g} s each time: to stay within compare_share={share:g} of the "
    "run's time it is done about every {about:,.0f} steps, not every {every:,}"
)
SAVING = (
    "writing a checkpoint takes {last:.2g} s: to stay within {share:.0%} of the run's time one is written about every "
    "{about:,.0f} steps, not every checkpoint_every={every}"
)


class Cadence:
    """Trigger every `every` steps after `step`: due when `next` is reached."""

    def __init__(self, every: int, step: int) -> None:
        self.every, self.next = every, (step // every + 1) * every

    def due(self, step: int) -> bool:
        if step < self.next:
            return False
        self.next = (step // self.every + 1) * self.every
        return True


class Timed(Cadence):
    """Trigger that measures the share of the run's time spent on what it triggers."""

    def __init__(self, every: int, step: int) -> None:
        super().__init__(every, step)
        self._began, self._spent = time.perf_counter(), 0.0

    @property
    def share(self) -> float:
        """The share of the time spent so far."""
        return self._spent / max(time.perf_counter() - self._began, 1e-9)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Context manager that measures the time spent."""
        start = time.perf_counter()
        yield
        self._spent += time.perf_counter() - start


class Pace:
    """Number of updates that take about `TURN` seconds, estimated from earlier ones."""

    def __init__(self) -> None:
        self._each = TURN  # seconds that an update took in the last turn

    def updates(self, most: int) -> int:
        """The number of updates of the next turn, 1 .. `most`."""
        return max(1, min(most, int(TURN / self._each)))

    @contextmanager
    def timed(self, updates: int) -> Iterator[None]:
        """Context manager that measures the time of so many updates."""
        began = time.perf_counter()
        yield
        self._each = max((time.perf_counter() - began) / updates, 1e-9)


class Capped(Cadence):
    """Trigger that skips turns which would exceed a share of the run's time.

    Turns are due at the same steps, whatever they cost; the clock decides which of them are skipped.

    Args:
        every, step: see Cadence.
        share: in (0, 1]; 1 never skips.
        clock: () → seconds; for tests.
        grace: seconds that are not counted.
        told: the warning that is given once turns are skipped.
    """

    def __init__(
        self,
        every: int,
        step: int,
        share: float,
        clock: Callable[[], float] = time.perf_counter,
        *,
        grace: float = GRACE,
        told: str = COMPARING,
    ) -> None:
        super().__init__(every, step)
        self._grace, self._told = grace, told
        self._allowed, self._clock = share, clock
        self._began, self._first, self._said = clock(), step, False
        self.spent = self._last = 0.0  # seconds in all, and of the last time

    @property
    def share(self) -> float:
        """The share of the run's time spent so far."""
        return self.spent / max(self._clock() - self._began, 1e-9)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Context manager that measures the time spent."""
        start = self._clock()
        yield
        self._last = self._clock() - start
        self.spent += self._last

    def due(self, step: int) -> bool:
        if not super().due(step):
            return False
        elapsed = self._clock() - self._began
        if self._allowed < 1 and self.spent + self._last > self._grace + self._allowed * elapsed:
            self._say(step, elapsed)
            return False
        return True

    def state_dict(self) -> dict[str, float]:
        """State for a checkpoint: the first step, seconds since then, seconds spent, seconds of the last turn."""
        elapsed = self._clock() - self._began
        return {"first": self._first, "elapsed": elapsed, "spent": self.spent, "last": self._last}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore the state of `state_dict`."""
        self._first, self._began = int(state["first"]), self._clock() - state["elapsed"]
        self.spent, self._last = state["spent"], state["last"]

    def _say(self, step: int, elapsed: float) -> None:
        if not self._said:
            self._said = True
            about = self._last / self._allowed * (step - self._first) / elapsed
            _log.warning(self._told.format(last=self._last, share=self._allowed, about=about, every=self.every))
