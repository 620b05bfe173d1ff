"""A bank that lies in every way there is computes nothing but one agreed total.

`lie_search` says what is searched. Its own power to find something is shown with rules broken:

- With 2 tau <= n + t it finds a single vector or one of two sub-totals. Rule P1 is enough, not
  exact: where m is above tau the same thresholds may leak nothing, or no more than a total that no
  quorum agreed to (with m = n nothing may drop out, and nothing falls apart).
- With the canonical-key check off it finds NOTHING: pair keys also depend on the two nodes'
  places, so that the seeds of a colluder with a victim's key (bit 255 set) are not the victim's.
  With those places left out, as in the trial that found the attack, and the check on, nothing
  either. With both off it opens the victim. So two rules stand in the way of this attack; either
  is enough.

HEJIN_FULL=1 searches every choice of who colludes, with all of them registering any key at once;
by default the first nodes collude, and one at a time registers another key than its own.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from lie_search import Leak, Setting, safe_settings, search, unsafe_settings

FULL = os.environ.get("HEJIN_FULL") == "1"


def name_of(setting: Setting) -> str:
    who = "" if setting.colluders is None else "-" + "".join(map(str, setting.colluders))
    return f"n{setting.n}-tau{setting.tau}-m{setting.m}-t{setting.t}{who}"


def searched() -> Iterator[Setting]:
    for setting in safe_settings():
        if FULL:
            for colluders in itertools.combinations(range(setting.n), setting.t):
                yield replace(setting, colluders=colluders)
        else:
            yield replace(setting, deviants=1)


def test_every_setting_of_rule_p1_is_there() -> None:
    sizes = [setting.n for setting in safe_settings()]
    assert [sizes.count(n) for n in range(2, 6)] == [1, 4, 7, 13]


@pytest.mark.parametrize("setting", list(searched()), ids=name_of)
def test_no_lie_opens_anything_but_one_agreed_total(setting: Setting) -> None:
    report = search(setting)
    assert report.leaks == []
    assert report.split == []
    assert report.opened > 0, "not even the truth opens a total: nothing was searched"


def check_computed(leak: Leak) -> None:
    """A leak is no opinion: the vector was computed from what the bank has."""
    assert leak.exact
    assert leak.values == leak.truth


@pytest.mark.parametrize("setting", [s for s in unsafe_settings() if s.tau == s.m], ids=name_of)
def test_two_quorums_open_two_totals(setting: Setting) -> None:
    report = search(replace(setting, deviants=0), stop=True)
    (leak,) = report.grave
    check_computed(leak)
    shown = {survivors for survivors in leak.told.values() if survivors}
    assert len(shown) == 2


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(Setting(4, 2, 3, 1, off=frozenset({"thresholds"})), id="n4-tau2-m3-t1"),
        pytest.param(Setting(5, 2, 4, 1, off=frozenset({"thresholds"})), id="n5-tau2-m4-t1"),
        # No rule is off here: the plan says that nobody colludes, and two do.
        pytest.param(Setting(5, 3, 4, 2, planned=0), id="more-collude-than-planned"),
    ],
)
def test_two_quorums_open_a_single_node(setting: Setting) -> None:
    (leak,) = search(replace(setting, deviants=0), stop=True).grave
    check_computed(leak)
    assert len(leak.nodes) == 1


@pytest.mark.parametrize(
    "setting",
    [Setting(4, 3, 3, 1), *([Setting(5, 4, 4, 1), Setting(5, 4, 4, 2)] if FULL else [])],
    ids=name_of,
)
def test_a_twisted_key_opens_its_victim_if_pair_keys_do_not_depend_on_places(
    setting: Setting,
) -> None:
    for off in ("canonical", "indices"):
        report = search(replace(setting, off=frozenset({off})))
        assert (report.leaks, report.split) == ([], []), f"{off} alone was off"
        assert report.opened > 0
    leak, *_ = search(replace(setting, off=frozenset({"canonical", "indices"})), stop=True).grave
    check_computed(leak)
    (victim,) = leak.nodes
    assert f"{victim} twisted" in leak.keys.values()


def test_the_keys_of_low_order_are_refused_on_agreement_too() -> None:
    """With the check off, the shared secret of zero stops them: no roster with one is left."""
    setting = Setting(4, 4, 4, 1)
    checked = search(setting)
    unchecked = search(replace(setting, off=frozenset({"canonical"})))
    # Its own key alone; or its own and the four with bit 255 set, and nothing of low order.
    assert checked.rosters - checked.refused == 1
    assert unchecked.rosters - unchecked.refused == 5
    assert unchecked.leaks == []
