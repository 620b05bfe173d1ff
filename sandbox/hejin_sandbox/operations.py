"""Seeded synthetic production, equipment, logistics and fulfilment data (合成数据) of a cluster.

They go with the invoices of `generator`: the same latent risk moves them, an enterprise's output
and orders are of the size of its sales, and shipments follow orders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hejin_sandbox.generator import AS_OF, MARGINALS, MONTHS, ClusterData, Floats, Ints, sigmoid

Days = npt.NDArray[np.datetime64]

_FIRST_MONTH: Final = (AS_OF + 1).astype("datetime64[M]") - MONTHS
_FIRST_DAY: Final = _FIRST_MONTH.astype("datetime64[D]")
_WINDOW: Final = int((AS_OF - _FIRST_DAY).astype(int)) + 1


@dataclass(frozen=True, slots=True)
class _Craft:
    """What a cluster makes: general knowledge of the trade, no enterprise's figures.

    products  name and price in CNY of one unit of its measure
    machines  what its machines are called
    energy    kWh for CNY 1,000 of output
    hands     persons at work in an enterprise of middle size
    """

    products: tuple[tuple[str, float], ...]
    machines: str
    energy: float
    hands: float


_CRAFTS: Final[Mapping[str, _Craft]] = {
    "anping": _Craft((("镀锌丝网", 9.0), ("焊接网", 14.0), ("不锈钢网", 42.0)), "织网机", 60, 15),
    "yongnian": _Craft(
        (("六角螺栓", 6500.0), ("螺母", 7800.0), ("膨胀螺栓", 8200.0)), "冷镦机", 90, 18
    ),
    "jingxian": _Craft(
        (("橡胶软管", 18.0), ("液压胶管", 55.0), ("聚乙烯管", 12.0)), "挤出机", 110, 20
    ),
    "ningjin": _Craft((("电力电缆", 95.0), ("布电线", 2.6), ("控制电缆", 21.0)), "拉丝机", 45, 26),
    "gaoyang": _Craft((("毛巾", 7.5), ("毛毯", 68.0), ("棉纱", 24000.0)), "织机", 130, 28),
}

_PROVINCES: Final = ("河北", "山东", "江苏", "浙江", "广东", "河南", "辽宁", "四川")

# Loadings of the latent risk, in standard deviations of each quantity: like those of the invoices,
# strong enough to be learnt from some hundred enterprises and far from giving the outcome away.
_LOADING: Final[Mapping[str, float]] = {
    "growth": -0.45,
    "noise": 0.35,
    "idle": 0.40,
    "quality": -0.35,
    "energy": 0.25,
    "people": -0.40,
    "utilisation": -0.45,
    "slump": 0.40,
    "failures": 0.35,
    "stops": 0.30,
    "stock": 0.40,
    "late": 0.50,
    "returns": 0.40,
    "share": 0.30,
}
_SHIFTS: Final = np.array([208.0, 416.0, 600.0])
"""Hours that a machine is planned to run in a month: one, two or three shifts."""


def operations(data: ClusterData, codes: Sequence[str], seed: int) -> dict[str, pa.Table]:
    """Return a cluster's data sets output, machines, stock, shipments and orders.

    codes   of its enterprises, in order
    seed    the one that `data` was generated with; the same seed, the same tables
    Nothing is dated after AS_OF; what was not delivered or had not arrived by then is empty.
    """
    return _Works(data, codes, seed).tables()


class _Works:
    """Draws the four categories given each enterprise's latent risk and its sales."""

    def __init__(self, data: ClusterData, codes: Sequence[str], seed: int) -> None:
        self._risk, self._n = data.risk, len(data.risk)
        self._codes = pa.array(codes, pa.string())
        self._craft, self._id = _CRAFTS[data.cluster.id], data.cluster.id
        self._rng = np.random.default_rng([seed, *data.cluster.id.encode(), 1])
        counted = data.invoices.sale & ~data.invoices.void
        sales = np.bincount(
            data.invoices.enterprise[counted], data.invoices.net[counted], minlength=self._n
        )
        #: CNY a month; an enterprise of red letters alone still makes something.
        self._scale = np.maximum(sales / MONTHS, 1000.0)
        self._share = sigmoid(0.3 + 0.9 * self._mix("share"))

    def tables(self) -> dict[str, pa.Table]:
        value = self._monthly_value()
        orders, shipments = self._orders()
        return {
            "output": self._output(value),
            "machines": self._machines(value),
            "stock": self._stock(value),
            "shipments": shipments,
            "orders": orders,
        }

    def _mix(self, what: str) -> Floats:
        loading = _LOADING[what]
        own = self._rng.standard_normal(self._n)
        mixed: Floats = loading * self._risk + np.sqrt(1 - loading**2) * own
        return mixed

    def _monthly_value(self) -> Floats:
        """Return the value of output, CNY[n, MONTHS]."""
        month = np.arange(MONTHS)
        season = 12 * np.asarray(MARGINALS.season)[(int(_FIRST_MONTH.astype(int)) + month) % 12]
        growth = 0.05 + 0.35 * self._mix("growth")
        spread = 0.25 * np.exp(0.4 * self._mix("noise"))
        wobble = spread[:, None] * self._rng.standard_normal((self._n, MONTHS))
        course = np.exp(growth[:, None] * (month - MONTHS / 2) / 12 + wobble)
        idle = self._rng.random(course.shape) < sigmoid(-4.2 + 1.0 * self._mix("idle"))[:, None]
        value: Floats = np.where(idle, 0.0, self._scale[:, None] * season * course)
        return value

    def _output(self, value: Floats) -> pa.Table:
        products = len(self._craft.products)
        shares = self._rng.dirichlet(np.full(products, 1.2), self._n)
        shares[shares < 0.08] = 0.0  # nobody makes a product for a trifle
        shares /= shares.sum(axis=1, keepdims=True)
        made = value[:, None, :] * shares[:, :, None]  # [n, product, month]
        price = np.array([price for _, price in self._craft.products])
        price = price * np.exp(0.1 * self._rng.standard_normal((self._n, products)))
        thirst = self._craft.energy * np.exp(0.35 * self._mix("energy"))
        wobble = np.exp(0.08 * self._rng.standard_normal(made.shape))
        month = np.arange(MONTHS)
        # Less than in proportion to the value: the invoices are a sample of a firm's volume.
        hands = self._craft.hands * (self._scale / np.median(self._scale)) ** 0.5
        course = 1 + (0.06 + 0.12 * self._mix("people"))[:, None] * (month - MONTHS / 2) / 12
        people = (
            np.maximum(hands[:, None] * np.maximum(course, 0.2), 1)[:, None, :] * shares[:, :, None]
        )
        quality = sigmoid(3.6 + 0.7 * self._mix("quality"))[:, None, None]
        quality = np.clip(quality + 0.01 * self._rng.standard_normal(made.shape), 0, 1)
        who, what, when = np.nonzero(made > 0)
        at = (who, what, when)
        return self._table(
            who,
            month=_month(when),
            product=pa.array([name for name, _ in self._craft.products]).take(pa.array(what)),
            quantity=np.round(made[at] / price[who, what], 2),
            output_value=np.round(made[at], 2),
            energy=np.round(made[at] / 1000 * thirst[who] * wobble[at], 1),
            headcount=np.maximum(np.rint(people[at]), 1).astype(np.int64),
            quality_rate=np.round(quality[at], 4),
        )

    def _machines(self, value: Floats) -> pa.Table:
        size = self._scale / np.median(self._scale)
        count = np.clip(np.rint(4 * size**0.4), 1, 12).astype(np.int64)
        who = np.repeat(np.arange(self._n), count * MONTHS)
        number = np.concatenate([np.repeat(np.arange(k), MONTHS) for k in count])
        when = np.tile(np.arange(MONTHS), int(count.sum()))
        planned = _SHIFTS[self._rng.integers(0, 3, self._n)][who]
        busy = value / np.maximum(value.mean(axis=1, keepdims=True), 1.0)
        slump = np.maximum(self._mix("slump") - 0.5, 0) * 0.8  # of log odds, in the last months
        late = np.clip((np.arange(MONTHS) - (MONTHS - 5)) / 4, 0, 1)
        odds = 1.0 + 0.7 * self._mix("utilisation")
        odds = odds[:, None] - slump[:, None] * late + 0.5 * np.log(np.maximum(busy, 0.02))
        rate = sigmoid(odds)[who, when] + 0.03 * self._rng.standard_normal(len(who))
        run = planned * np.clip(rate, 0.0, 1.0)
        stopped = sigmoid(-3.4 + 0.6 * self._mix("stops"))[who] * self._rng.gamma(2, 0.5, len(who))
        fails = 3 * np.exp(0.6 * self._mix("failures"))  # per 1,000 hours
        failures = self._rng.poisson(fails[who] * run / 1000)
        return self._table(
            who,
            month=_month(when),
            machine=pa.array([f"{self._craft.machines}{i + 1}" for i in range(12)]).take(
                pa.array(number)
            ),
            planned_hours=planned,
            run_hours=np.round(run, 1),
            stop_hours=np.round(np.minimum(planned * stopped, planned - run), 1),
            stops=failures + self._rng.poisson(4, len(who)),
            failures=failures,
        )

    def _stock(self, value: Floats) -> pa.Table:
        days = 35 * np.exp(0.5 * self._mix("stock"))
        tables = []
        for item, share, cost in (("原材料", 0.6, 0.65), ("产成品", 0.4, 0.85)):
            issued = cost * value * np.exp(0.1 * self._rng.standard_normal(value.shape))
            held = share * days[:, None] / 30 * cost * value.mean(axis=1, keepdims=True)
            held = held * np.exp(0.2 * self._rng.standard_normal(value.shape))
            who, when = np.nonzero(np.ones_like(value))
            tables.append(
                self._table(
                    who,
                    month=_month(when),
                    item=pa.array([item]).take(pa.array(np.zeros(len(who), dtype=np.int64))),
                    stock_value=np.round(held, 2).ravel(),
                    issued_value=np.round(issued, 2).ravel(),
                )
            )
        return pa.concat_tables(tables).combine_chunks()

    def _orders(self) -> tuple[pa.Table, pa.Table]:
        rng = self._rng
        count = np.clip(np.rint(30 * np.exp(0.4 * rng.standard_normal(self._n))), 8, 200)
        count = count.astype(np.int64)
        who = np.repeat(np.arange(self._n), count)
        size = len(who)
        ordered = _FIRST_DAY + rng.integers(0, _WINDOW, size).astype("timedelta64[D]")
        lead = rng.integers(7, 46, size)
        slip = np.rint(_late(self._mix("late")[who], lead, rng)).astype(np.int64)
        delivered = ordered + np.maximum(lead + slip, 1).astype("timedelta64[D]")
        transit = np.minimum(rng.integers(1, 6, size), (delivered - ordered).astype(np.int64))
        sent = delivered - transit.astype("timedelta64[D]")
        promised = ordered + lead.astype("timedelta64[D]")
        amount = (self._scale * MONTHS / count)[who] * np.exp(
            0.7 * rng.standard_normal(size) - 0.245
        )
        back = rng.random(size) < sigmoid(-4.0 + 0.8 * self._mix("returns"))[who]
        returned = delivered + rng.integers(3, 60, size).astype("timedelta64[D]")
        partners = np.maximum(2, np.rint(1.5 * np.sqrt(count))).astype(np.int64)
        power = np.log(partners) / -np.log(np.clip(self._share, 0.05, 0.95))
        customer = np.floor(partners[who] * rng.random(size) ** power[who]).astype(np.int64)
        customers = pa.array([f"SYN-{self._id}-C{i}" for i in range(int(partners.max()))])
        came_back = back & (returned <= AS_OF)
        orders = self._table(
            who,
            ordered=_dates(ordered),
            customer=customers.take(pa.array(customer)),
            amount=np.round(np.maximum(amount, 1.0), 2),
            promised=_dates(promised),
            delivered=_dates(delivered, delivered <= AS_OF),
            returned=_dates(returned, came_back),
            returned_amount=pa.array(
                np.round(np.maximum(amount, 1.0) * rng.uniform(0.05, 1.0, size), 2), mask=~came_back
            ),
        )
        on_road = sent <= AS_OF
        place = pa.array(_PROVINCES).take(pa.array(rng.integers(0, len(_PROVINCES), size)))
        tons = 0.5 * (amount / 1e4) ** 0.5 * np.exp(0.3 * rng.standard_normal(size))
        shipments = self._table(
            who,
            sent=_dates(sent),
            destination=place,
            weight=np.round(np.clip(tons, 0.01, 30.0), 2),
            freight=np.round(np.clip(350 * tons, 20.0, 20_000.0), 2),
            due=_dates(promised),
            arrived=_dates(delivered, delivered <= AS_OF),
        ).filter(pa.array(on_road))
        return orders, shipments.combine_chunks()

    def _table(self, who: Ints, **columns: object) -> pa.Table:
        return pa.table({"enterprise": self._codes.take(pa.array(who)), **columns})


def _late(mixed: Floats, lead: Ints, rng: np.random.Generator) -> Floats:
    """Return days after (below 0: before) the promised one: more and longer in a bad name."""
    early = -rng.random(len(lead)) * 0.3 * lead
    delay = rng.exponential(6.0 * np.exp(0.4 * mixed))
    is_late = rng.random(len(lead)) < sigmoid(-1.5 + 0.8 * mixed)
    return np.where(is_late, delay, early)


def _month(place: Ints) -> pa.Array:
    """Return the first day of each month of the window, date32."""
    return _dates((_FIRST_MONTH + place.astype("timedelta64[M]")).astype("datetime64[D]"))


def _dates(days: Days, there: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    return pa.array(days, pa.date32(), mask=None if there is None else ~there)
