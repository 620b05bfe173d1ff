"""Seeded synthetic `trade` events (合成数据) for the five pilot clusters.

Nothing here describes a real enterprise. Each synthetic enterprise gets one latent risk; the risk
shifts how it trades (voids, red-letter invoices, concentration, volatility, growth, silence) and,
separately, decides its default. A model can therefore learn the default only through the invoices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from hejin_trust.text import Text

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Marks every file and name that holds generated data.
SYNTHETIC = Text("synthetic", "合成数据")

#: Events cover the 24 months up to this day; labels say what happened in the 12 months after it.
AS_OF = np.datetime64("2025-06-30", "D")
MONTHS = 24

#: The first month of the events.
_FIRST_MONTH = (AS_OF + 1).astype("datetime64[M]") - MONTHS


@dataclass(frozen=True, slots=True)
class Marginals:
    """Aggregate marginals over the enterprises of a real invoice feed; no record of it.

    Measured once on the contest set CUMCM 2020 C (123 anonymised Chinese small enterprises, VAT
    invoices 2017-2020). Rates are shares in [0, 1], given as (median, log-odds standard deviation),
    the latter from the quartiles over enterprises; amounts are log10 of net CNY.
    """

    sales_void: tuple[float, float] = (0.0898, 0.71)  # quartiles .057, .136
    purchase_void: tuple[float, float] = (0.0219, 1.10)  # quartiles .005, .041
    sales_negative: tuple[float, float] = (0.0104, 1.60)  # quartiles .001, .024
    sales_log10_mean: float = 4.29  # mean over enterprises of the mean log10 amount
    sales_log10_between: float = 0.70  # its standard deviation between enterprises
    sales_log10_within: tuple[float, float] = (0.41, 0.57)  # median; sd of its log: .27 to .60
    purchase_log10_within: float = 0.83
    purchase_to_sales: tuple[float, float] = (0.40, 1.10)  # median; sd of its log, outer fifth cut
    customer_share: tuple[float, float] = (0.36, 0.85)  # largest share; log-odds sd: HHI .07 to .32
    supplier_share: tuple[float, float] = (0.41, 0.95)  # HHI .08 to .48
    growth: tuple[float, float] = (
        0.10,
        0.50,
    )  # log of sales on the year before; quartiles -.31, .60
    monthly_noise: tuple[float, float] = (
        0.55,
        0.45,
    )  # log sd of months; sd of its log: CV .65-1.08
    whole_window: float = 0.72  # enterprises that invoice through the whole window
    # Share of valid sales a calendar month, January first: the New Year rush and the February lull.
    season: tuple[float, ...] = (
        0.120, 0.049, 0.074, 0.070, 0.075, 0.079, 0.080, 0.085, 0.082, 0.084, 0.095, 0.107,
    )  # fmt: skip


MARGINALS = Marginals()

# The feed has a median of 454 invoices an enterprise and direction in 35 months. A demonstration
# keeps the shape (a long tail: log10 sd .69, cut to .36) at about a twentieth of the volume.
_SALES_COUNT, _PURCHASE_COUNT, _COUNT_LOG10_SD, _COUNT_MOST = 26, 20, 0.30, 400
_WITHIN_MOST = 0.80  # the feed's 95 % quantile of the log10 spread; beyond, amounts turn absurd


@dataclass(frozen=True, slots=True)
class Cluster:
    """One pilot cluster of the programme, as public knowledge has it.

    vat            usual VAT rates of its goods, most common first
    size           shift of log10 amounts against the marginals
    hardship       shift of the log-odds of default
    signals        where risk shows most in this trade; elsewhere it shows less. So a model of one
                   cluster alone is a worse judge of the others than a model of all five
    """

    id: str
    name: Text
    trade: Text
    vat: tuple[float, ...]
    size: float
    hardship: float
    signals: frozenset[str]


CLUSTERS: tuple[Cluster, ...] = (
    Cluster(
        "anping",
        Text("Anping wire mesh", "安平丝网"),
        Text("wire mesh", "丝网"),
        (0.13, 0.13, 0.03),
        0.0,
        0.0,
        frozenset({"sales_void", "silence", "customers"}),
    ),
    Cluster(
        "yongnian",
        Text("Yongnian fasteners", "永年紧固件"),
        Text("fasteners", "紧固件"),
        (0.13, 0.13, 0.03),
        0.1,
        0.15,
        frozenset({"growth", "noise", "ratio"}),
    ),
    Cluster(
        "jingxian",
        Text("Jingxian rubber and plastic tubing", "景县橡塑管"),
        Text("rubber and plastic tubing", "橡塑管"),
        (0.13, 0.13, 0.13, 0.03),
        0.05,
        -0.15,
        frozenset({"customers", "suppliers", "count", "entry"}),
    ),
    Cluster(
        "ningjin",
        Text("Ningjin wire and cable", "宁晋电线电缆"),
        Text("wire and cable", "电线电缆"),
        (0.13,),
        0.35,
        -0.25,
        frozenset({"amount", "ratio", "growth"}),
    ),
    Cluster(
        "gaoyang",
        Text("Gaoyang textiles", "高阳纺织"),
        Text("textiles", "纺织"),
        (0.13, 0.03, 0.03),
        -0.15,
        0.25,
        frozenset({"noise", "silence", "negative"}),
    ),
)

# Loadings of the latent risk on what is observed, in standard deviations of each marginal, and on
# the log-odds of default. Chosen so that a non-private scorecard on the five clusters together
# reaches an AUC near .78 at 10-20 % bad: believable for trade data, and far from 1.
_LOADING: Mapping[str, float] = {
    "sales_void": 0.50,
    "purchase_void": -0.20,  # as in the feed: firms in trouble void few purchases
    "negative": 0.45,
    "customers": 0.40,
    "suppliers": 0.20,
    "growth": -0.60,
    "noise": 0.45,
    "ratio": 0.50,
    "count": -0.50,
    "amount": -0.35,
    "entry": 0.40,
    "silence": 0.60,
}
_STRONG, _WEAK = 1.6, 0.8  # times a loading, in the cluster's own signals and in the others
_DEFAULT_BASE, _DEFAULT_SLOPE = -2.95, 2.20


@dataclass(frozen=True, slots=True)
class Invoices:
    """Invoices of one cluster, one entry each in equally long columns.

    enterprise     row number of the enterprise, 0..n-1
    sale           True: issued by the enterprise; False: received by it
    counterparty   number of the other party, without meaning outside this cluster
    date           day of issue
    net, tax       CNY, two decimals; negative for red-letter invoices
    void           True: cancelled after issue
    """

    enterprise: Ints
    sale: npt.NDArray[np.bool_]
    counterparty: Ints
    date: npt.NDArray[np.datetime64]
    net: Floats
    tax: Floats
    void: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClusterData:
    """One generated cluster: `labels[i]` is 1 when enterprise i defaults within 12 months.

    risk   the latent risk behind everything, standard normal; no node or bank ever sees it
    """

    cluster: Cluster
    risk: Floats
    labels: npt.NDArray[np.int8]
    invoices: Invoices


def generate(cluster: Cluster, enterprises: int, seed: int) -> ClusterData:
    """Return `enterprises` synthetic enterprises of one cluster; the same seed, the same data.

    raises   ValueError unless enterprises >= 1 and seed >= 0
    """
    if enterprises < 1:
        raise ValueError(f"a cluster needs at least 1 enterprise, got {enterprises}")
    rng = np.random.default_rng([seed, *cluster.id.encode()])
    risk = rng.standard_normal(enterprises)
    odds = _DEFAULT_BASE + cluster.hardship + _DEFAULT_SLOPE * risk
    labels = (rng.random(enterprises) < sigmoid(odds)).astype(np.int8)
    return ClusterData(cluster, risk, labels, _Trader(cluster, risk, rng).invoices())


class _Trader:
    """Draws the invoices of one cluster given each enterprise's latent risk."""

    def __init__(self, cluster: Cluster, risk: Floats, rng: np.random.Generator) -> None:
        self._cluster, self._risk, self._rng, self._n = cluster, risk, rng, len(risk)
        count = self._mix("count")
        self._sales = self._counts(_SALES_COUNT, count)
        self._purchases = self._counts(_PURCHASE_COUNT, count)
        # Few invoices in a bad name, but not for want of months: entry and silence act on dates.
        self._shape = self._month_shares()

    def invoices(self) -> Invoices:
        """Return sales and purchases of all enterprises, by enterprise and date."""
        sales_net, purchase_net = self._means()
        m = MARGINALS
        sales = self._side(
            sale=True,
            counts=self._sales,
            mean=sales_net,
            within=np.minimum(
                m.sales_log10_within[0]
                * np.exp(m.sales_log10_within[1] * self._rng.standard_normal(self._n)),
                _WITHIN_MOST,
            ),
            share=self._odds(m.customer_share, "customers"),
            void=self._odds(m.sales_void, "sales_void"),
            negative=self._odds(m.sales_negative, "negative"),
        )
        purchases = self._side(
            sale=False,
            counts=self._purchases,
            mean=purchase_net,
            within=np.full(self._n, m.purchase_log10_within),
            share=self._odds(m.supplier_share, "suppliers"),
            void=self._odds(m.purchase_void, "purchase_void"),
            negative=np.full(self._n, 0.007),  # mean over the feed's enterprises
        )
        return _joined(sales, purchases)

    def _mix(self, what: str) -> Floats:
        """Return a standard normal per enterprise, correlated with its risk by the loading."""
        factor = _STRONG if what in self._cluster.signals else _WEAK
        loading = factor * _LOADING[what]
        own = self._rng.standard_normal(self._n)
        mixed: Floats = loading * self._risk + np.sqrt(1 - loading**2) * own
        return mixed

    def _odds(self, marginal: tuple[float, float], what: str) -> Floats:
        median, spread = marginal
        return sigmoid(np.asarray(np.log(median / (1 - median)) + spread * self._mix(what)))

    def _counts(self, median: int, mixed: Floats) -> Ints:
        jitter = 0.1 * self._rng.standard_normal(self._n)
        drawn = median * 10 ** (_COUNT_LOG10_SD * mixed + jitter)
        return np.clip(np.rint(drawn), 2, _COUNT_MOST).astype(np.int64)

    def _month_shares(self) -> Floats:
        """Return [n, MONTHS] probabilities of an invoice by month; the last is that of AS_OF."""
        m, rng, n = MARGINALS, self._rng, self._n
        month = np.arange(MONTHS)
        season = np.asarray(m.season)[(int(_FIRST_MONTH.astype(int)) + month) % 12]
        growth = m.growth[0] + m.growth[1] * self._mix("growth")
        spread = m.monthly_noise[0] * np.exp(m.monthly_noise[1] * self._mix("noise"))
        wobble = spread[:, None] * rng.standard_normal((n, MONTHS))
        weight = season * np.exp(growth[:, None] * month / 12 + wobble)
        # Entry: the riskiest 28 % by `entry` joined late; silence: some stopped invoicing early.
        late = self._mix("entry") > _quantile(m.whole_window)
        entry = np.where(late, rng.integers(1, MONTHS - 5, n), 0)
        quiet = np.maximum(self._mix("silence") - 0.6, 0.0)
        last = MONTHS - 1 - np.minimum(np.floor(3.0 * quiet).astype(np.int64), 5)
        weight[(month < entry[:, None]) | (month > last[:, None])] = 0.0
        shares: Floats = weight / weight.sum(axis=1, keepdims=True)
        return shares

    def _means(self) -> tuple[Floats, Floats]:
        """Return the mean log10 net amount of a sale and of a purchase, per enterprise."""
        m = MARGINALS
        sale = m.sales_log10_mean + self._cluster.size + m.sales_log10_between * self._mix("amount")
        ratio = np.log10(m.purchase_to_sales[0]) + m.purchase_to_sales[1] / np.log(10) * self._mix(
            "ratio"
        )
        # E[10^x] = 10^(mean + ln(10) sd^2 / 2): make the totals, not the medians, meet the ratio.
        surplus = np.log(10) / 2
        per_count = np.log10(self._sales / self._purchases)
        purchase = (
            sale
            + surplus * m.sales_log10_within[0] ** 2
            + ratio
            + per_count
            - surplus * m.purchase_log10_within**2
        )
        return sale, purchase

    def _side(
        self,
        *,
        sale: bool,
        counts: Ints,
        mean: Floats,
        within: Floats,
        share: Floats,
        void: Floats,
        negative: Floats,
    ) -> Invoices:
        rng = self._rng
        who = np.repeat(np.arange(self._n), counts)
        size = len(who)
        by_month = rng.multinomial(counts, self._shape)
        month = np.repeat(np.tile(np.arange(MONTHS), self._n), by_month.ravel())
        amount = 10 ** (mean[who] + within[who] * rng.standard_normal(size))
        net = np.maximum(np.round(amount, 2), 0.01) * np.where(
            rng.random(size) < negative[who], -1.0, 1.0
        )
        rate = np.asarray(self._cluster.vat)[rng.integers(0, len(self._cluster.vat), self._n)]
        return Invoices(
            enterprise=who,
            sale=np.full(size, sale),
            counterparty=self._parties(who, counts, share),
            date=_days(month, rng),
            net=net,
            tax=np.round(net * rate[who], 2),
            void=rng.random(size) < void[who],
        )

    def _parties(self, who: Ints, counts: Ints, share: Floats) -> Ints:
        """Return one counterparty an invoice; the largest of an enterprise has about `share`.

        Of c partners, partner floor(c u^k) with u uniform: the first has probability c^(-1/k).
        Partners come from one pool a cluster, so that enterprises share customers.
        """
        partners = np.maximum(2, np.rint(2.2 * np.sqrt(counts))).astype(np.int64)
        power = np.log(partners) / -np.log(np.clip(share, 0.02, 0.98))
        rank = np.floor(partners[who] * self._rng.random(len(who)) ** power[who]).astype(np.int64)
        pool = max(50, 4 * self._n)
        offset = self._rng.integers(0, pool, self._n)
        return (offset[who] + rank * 7919) % pool  # 7919, a prime: neighbours do not overlap


def _joined(sales: Invoices, purchases: Invoices) -> Invoices:
    enterprise = np.concatenate([sales.enterprise, purchases.enterprise])
    date = np.concatenate([sales.date, purchases.date])
    order = np.lexsort((date, enterprise))
    return Invoices(
        enterprise=enterprise[order],
        sale=np.concatenate([sales.sale, purchases.sale])[order],
        counterparty=np.concatenate([sales.counterparty, purchases.counterparty])[order],
        date=date[order],
        net=np.concatenate([sales.net, purchases.net])[order],
        tax=np.concatenate([sales.tax, purchases.tax])[order],
        void=np.concatenate([sales.void, purchases.void])[order],
    )


def _days(month: Ints, rng: np.random.Generator) -> npt.NDArray[np.datetime64]:
    first = _FIRST_MONTH + month.astype("timedelta64[M]")
    start = first.astype("datetime64[D]")
    length = ((first + 1).astype("datetime64[D]") - start).astype(np.int64)
    days: npt.NDArray[np.datetime64] = start + rng.integers(0, length).astype("timedelta64[D]")
    return days


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + e^-x)."""
    result: Floats = 1.0 / (1.0 + np.exp(-x))
    return result


def _quantile(share: float) -> float:
    """Return the standard normal quantile of `share`."""
    return NormalDist().inv_cdf(share)
