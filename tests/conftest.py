"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Signals as in a terminal: a shell that starts the tests in the background, or nohup, has them ignored, which
    programs that tests start and interrupt would inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGHUP", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) == signal.SIG_IGN:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
