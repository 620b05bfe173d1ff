"""What holds for every test: Ctrl-C is heard, by the test and by all that it starts."""

from __future__ import annotations

import signal


def pytest_runtest_setup() -> None:
    """Give signals their usual meaning back.

    A shell's background job ignores Ctrl-C, and a command that ran in a test's own process took
    both signals for itself.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
