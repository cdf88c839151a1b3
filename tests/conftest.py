"""What holds for all tests."""

import os
import signal
from collections.abc import Iterator

import pytest

# Each worker of the tests has a core: threads of their products of small matrices would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_configure() -> None:
    """Signals as in a terminal: a shell that starts the tests in the background, or nohup, has them ignored, which
    programs that tests start and interrupt would inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGHUP", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) == signal.SIG_IGN:
            signal.signal(getattr(signal, name), signal.SIG_DFL)


@pytest.fixture(scope="module")
def without_pictures() -> Iterator[None]:
    """Runs and pages have no pictures, which take a second of each: for tests that look at none."""
    from support import draw_nothing

    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        yield
