"""The words of an authorisation for those who sign and read it: purposes, categories, headings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hejin_trust.authorisation import ANY
from hejin_trust.text import Text

PURPOSES: Final[Mapping[str, Text]] = {
    "model-training": Text(
        "training of credit models by private sums (model-training)",
        "以隐私求和训练信贷模型（model-training）",
    ),
    "credit-approval": Text(
        "deciding on an application of yours (credit-approval)",
        "贵企业申请的授信审批（credit-approval）",
    ),
    "post-loan-monitoring": Text(
        "monitoring of a running loan of yours (post-loan-monitoring)",
        "贵企业存续贷款的贷后监测（post-loan-monitoring）",
    ),
}

CATEGORIES: Final[Mapping[str, Text]] = {
    "production": Text("production", "生产经营"),
    "equipment": Text("equipment", "设备运行"),
    "trade": Text("purchases and sales (trade)", "采购销售（trade）"),
    "logistics": Text("storage and logistics", "仓储物流"),
    "fulfilment": Text("fulfilment of orders", "订单履约"),
    "outcome": Text(
        "how your loans at these banks went (outcome): the platform learns it from the banks",
        "贵企业在上述银行的贷款履约结果（outcome）：平台将从银行获知",
    ),
}

ALL_CATEGORIES: Final = Text(
    "all five kinds of industrial data, not the outcome of loans",
    "全部五类产业数据，不含贷款履约结果",
)
ALL_FEATURES: Final = Text("every feature of these data", "上述数据的全部特征")
ALL_BANKS: Final = Text(
    "every bank of the consortium, also those admitted later", "联盟全部银行，含此后加入者"
)

GRADES: Final[Mapping[str, Text]] = {
    "A": Text("A: signed by the enterprise's own key", "A 级：企业以自己的密钥签署"),
    "B": Text("B: attested by the platform operator", "B 级：由平台运营方证明"),
}


def purposes(listed: tuple[str, ...]) -> list[Text]:
    """Return the purposes in words."""
    return [PURPOSES[name] for name in listed]


def categories(listed: tuple[str, ...]) -> list[Text]:
    """Return the categories in words."""
    return [ALL_CATEGORIES if name == ANY else CATEGORIES[name] for name in listed]


def features(listed: tuple[str, ...]) -> list[Text]:
    """Return the features in words; a feature is told by its name in the view."""
    return [ALL_FEATURES if name == ANY else Text(name, name) for name in listed]
