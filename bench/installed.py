"""Leave out what tests install beside a node, so that a measured node is as operators have it."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder


class _NoPandas(MetaPathFinder):
    """Refuses pandas: pyarrow imports it where it is there, for .3 s, and no node has it."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """Leave every other module to the finders behind this one."""
        if fullname == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=fullname)


def without_pandas() -> None:
    """Make this process one without pandas; before its first import."""
    assert "pandas" not in sys.modules
    sys.meta_path.insert(0, _NoPandas())
