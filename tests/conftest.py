"""What holds for every test: Ctrl-C is heard, by tests and by all that they start."""

from __future__ import annotations

import signal

# A shell's background job ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
