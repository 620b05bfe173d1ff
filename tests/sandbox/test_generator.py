"""Synthetic trade events: seeded, believable, and only as predictive as they should be."""

from __future__ import annotations

import numpy as np
import pytest

from hejin_sandbox.generator import AS_OF, CLUSTERS, MARGINALS, MONTHS, ClusterData, generate


@pytest.fixture(name="data", scope="module")
def _data() -> ClusterData:
    return generate(CLUSTERS[0], 4000, seed=7)


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data() -> None:
    first, again, other = (generate(CLUSTERS[1], 200, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.invoices.net, again.invoices.net)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)


def test_clusters_differ_under_one_seed() -> None:
    a, b = (generate(cluster, 200, 1) for cluster in CLUSTERS[:2])
    assert len(a.invoices.net) != len(b.invoices.net)


def test_every_invoice_lies_in_the_window_up_to_the_as_of_date(data: ClusterData) -> None:
    dates = data.invoices.date
    assert dates.max() == AS_OF
    first = ((AS_OF + 1).astype("datetime64[M]") - MONTHS).astype("datetime64[D]")
    assert dates.min() == first


def test_every_enterprise_trades_both_ways_and_volume_stays_moderate(data: ClusterData) -> None:
    invoices = data.invoices
    for side in (True, False):
        assert len(np.unique(invoices.enterprise[invoices.sale == side])) == 4000
    volume = np.bincount(invoices.enterprise)
    assert 40 <= np.median(volume) <= 60
    assert np.quantile(volume, 0.95) > 2.5 * np.median(volume)  # the long tail


def test_tax_follows_net_and_amounts_are_cents(data: ClusterData) -> None:
    invoices = data.invoices
    assert np.array_equal(invoices.net, np.round(invoices.net, 2))
    rate = np.unique(
        np.round(
            invoices.tax[np.abs(invoices.net) > 100] / invoices.net[np.abs(invoices.net) > 100], 3
        )
    )
    assert set(rate.tolist()) <= set(data.cluster.vat)


def test_the_marginals_are_those_of_the_published_feed(data: ClusterData) -> None:
    invoices = data.invoices
    sale = invoices.sale
    sales = np.bincount(invoices.enterprise[sale])
    void = np.bincount(invoices.enterprise[sale], weights=invoices.void[sale]) / sales
    assert np.median(void) == pytest.approx(MARGINALS.sales_void[0], abs=0.02)
    positive = invoices.net[sale & (invoices.net > 0)]
    assert np.log10(positive).mean() == pytest.approx(MARGINALS.sales_log10_mean, abs=0.15)
    bought = np.log10(invoices.net[~sale & (invoices.net > 0)])
    assert bought.mean() == pytest.approx(3.11, abs=0.4)  # not fitted: follows from the ratio
    negative = (invoices.net[sale] < 0).mean()
    assert 0.01 < negative < 0.06  # .053 of all invoices in the feed, .023 an enterprise


@pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda cluster: cluster.id)
def test_ten_to_twenty_percent_of_a_cluster_default(cluster) -> None:  # type: ignore[no-untyped-def]
    assert 0.10 <= generate(cluster, 4000, 3).labels.mean() <= 0.20


def test_risk_shows_in_voids_without_giving_the_label_away(data: ClusterData) -> None:
    invoices = data.invoices
    sale = invoices.sale
    sales = np.bincount(invoices.enterprise[sale])
    void = np.bincount(invoices.enterprise[sale], weights=invoices.void[sale]) / sales
    bad = data.labels == 1
    wins = (void[bad][:, None] > void[~bad][None, :]).mean()
    ties = (void[bad][:, None] == void[~bad][None, :]).mean()
    assert 0.56 < wins + ties / 2 < 0.75


def test_a_cluster_without_enterprises_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        generate(CLUSTERS[0], 0, 1)


def test_a_seed_gives_the_data_that_it_always_gave() -> None:
    """What the README shows was made with these draws; new categories must not move them."""
    counts = {"anping": 12083, "yongnian": 12507, "jingxian": 13456, "ningjin": 11774,
              "gaoyang": 12482}  # fmt: skip
    defaults = {"anping": 34, "yongnian": 36, "jingxian": 25, "ningjin": 19, "gaoyang": 41}
    made = {cluster.id: generate(cluster, 200, 1) for cluster in CLUSTERS}
    assert {name: len(data.invoices.net) for name, data in made.items()} == counts
    assert {name: int(data.labels.sum()) for name, data in made.items()} == defaults
