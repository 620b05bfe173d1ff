"""Random enterprises of the shipped SBA view: any number of them, with a risk to be learnt."""

from __future__ import annotations

from importlib import resources

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hejin_models.features import FeatureView
from hejin_models.uscc import make_code
from hejin_sandbox.inputs import NodeData
from hejin_trust.text import Text

VIEW_FILE = (resources.files("hejin_models") / "views" / "sba-loans-v1.toml").read_bytes()
VIEW = FeatureView.parse(VIEW_FILE)

_BAD_SHARE = 0.18
_STATES = ("CA", "TX", "NY", "FL", "OH", "MT")


def one_node(place: int, size: int, seed: int = 20261122) -> NodeData:
    """Return node number `place` of a consortium with `size` enterprises a node, all different."""
    random = np.random.default_rng([seed, place])
    codes = tuple(make_code(place * size + i) for i in range(size))
    staff = np.ceil(random.lognormal(1.5, 1.2, size))
    amount = np.round(random.lognormal(11.0, 1.2, size))
    share = random.choice([0.5, 0.75, 0.85, 0.9], size)
    new = random.integers(1, 3, size)
    year = random.integers(1995, 2011, size)
    logit = (
        0.9 * (new == 2) - 0.5 * np.log(staff) - 0.3 * np.log(amount / 60_000.0)
        + 0.12 * (year - 2003)
    )  # fmt: skip
    logit += np.log(_BAD_SHARE / (1.0 - _BAD_SHARE)) - logit.mean()
    bad = random.random(size) < 1.0 / (1.0 + np.exp(-logit))
    state = random.choice(_STATES, size)
    records = pa.table(
        {
            "enterprise": pa.array(codes),
            "state": state,
            "bank_state": np.where(random.random(size) < 0.7, state, "NC"),
            "naics2": random.choice(["23", "31", "44", "54", "72", "81"], size),
            "approval_fy": _floats(year),
            "no_emp": staff,
            "new_exist": _floats(new),
            "create_job": np.floor(random.exponential(3.0, size)),
            "retained_job": np.floor(random.exponential(5.0, size)),
            "franchise_code": _floats(random.integers(0, 3, size)),
            "urban_rural": _floats(random.integers(0, 3, size)),
            "rev_line_cr": random.choice(["Y", "N"], size),
            "low_doc": random.choice(["Y", "N"], size),
            "gr_appv": amount,
            "sba_appv": amount * share,
        }
    )
    name = f"node-{place + 1:02d}"
    return NodeData(name, Text(name, name), codes, bad.astype(np.int8), records)


def _floats(values: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return values.astype(np.float64)
