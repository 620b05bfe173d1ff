"""What the sandbox refuses, and what can go wrong while it runs other processes."""

from __future__ import annotations

from hejin_trust.errors import HejinError, RefusedError


class TableError(RefusedError):
    """The table, or the way it was asked to be split, cannot make a consortium."""

    code = "table-refused"


class ProcessError(HejinError):
    """A process of the sandbox ended, or stayed silent, when it should not have."""

    code = "process-failed"


class RunError(HejinError):
    """The consortium did not reach a verified model."""

    code = "run-failed"


class ExamplesError(RefusedError):
    """Example files cannot be written as asked; nothing was written."""

    code = "examples-refused"
