"""What a member's logs are called: the origins that their checkpoints bear."""

from __future__ import annotations


def release_origin(consortium: str, role: str, member: str) -> str:
    """Return the origin of a member's release log; the internal log's adds `/internal`."""
    return f"hejin/{consortium}/{role}/{member}"


def internal_origin(consortium: str, role: str, member: str) -> str:
    """Return the origin of a member's internal log."""
    return f"{release_origin(consortium, role, member)}/internal"
