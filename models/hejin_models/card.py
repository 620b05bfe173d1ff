"""The model card: what a model is, where it comes from, how good it is and what it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

from hejin_models.evaluation import Estimate, Evaluation
from hejin_models.network_model import Network
from hejin_models.scorecard import BASE_ODDS, BASE_SCORE, PDO, Scorecard
from hejin_trust.canonical import fraction_body
from hejin_trust.text import Language, Text

FORMAT = "hejin-model-card-1"


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Where a model comes from.

    run, plan     their ids (hex); trained: RFC 3339 UTC
    rho           the plan's cap, what it may cost an enterprise with burned rounds asked again
    epsilon       of rho at delta, rounded up to four decimals by the card
    epsilon_once  the same of the plan's sums when each is asked once
    """

    run: str
    plan: str
    consortium: str
    bank: str
    product: str
    purpose: str
    label: str
    definition: str
    nodes: tuple[str, ...]
    mode: str
    rho: Fraction
    epsilon: float
    epsilon_once: float
    delta: Fraction
    trained: str


_RATE = (
    Text(
        "The probability of bad is that of the training data. Where bads were sampled at another"
        " rate than in the portfolio, recalibrate before quoting it.",
        "违约概率以训练数据为准。若样本违约率与实际组合不同，使用前须重新校准。",
    ),
)
_OF_SCORECARDS = (
    Text(
        "Points carry the noise that protects the enterprises: small differences between bins"
        " mean nothing.",
        "分值含有用于保护企业的噪声：分箱之间的微小差异没有意义。",
    ),
    Text(
        "Features are correlated. A negative coefficient corrects for other features; its bins"
        " must not be read alone.",
        "特征之间存在相关性。负系数用于修正其他特征，其分箱不可单独解读。",
    ),
)
_OF_NETWORKS = (
    Text(
        "A network gives no reasons for a score and cannot be read: where a refusal must be"
        " explained, use a scorecard.",
        "神经网络不给出评分原因，也无法逐项解读：须说明拒绝理由时，请使用评分卡。",
    ),
    Text(
        "Its weights carry the noise that protects the enterprises. On tables of features such as"
        " these a scorecard of the same privacy cost usually separates better.",
        "权重含有用于保护企业的噪声。在此类表格数据上，同等隐私损耗的评分卡通常区分能力更好。",
    ),
)
_USE = (
    Text(
        "The hold-out measure is of the same time and nodes as the training data. It does not"
        " foresee change: monitor drift.",
        "留出评估与训练数据同期、同节点，不能预见变化：请监测漂移。",
    ),
    Text(
        "Advice to a credit officer, computed in the bank's own process; no decision by itself.",
        "供信贷人员参考，由银行自行计算；本身不构成决定。",
    ),
)


LIMITATIONS = (*_RATE, *_OF_SCORECARDS, *_USE)
"""What the card of a scorecard warns of."""
NETWORK_LIMITATIONS = (*_RATE, *_OF_NETWORKS, *_USE)
"""What the card of a network warns of."""


def model_card(
    facts: CardFacts, model: Scorecard | Network, evaluation: Evaluation
) -> dict[str, object]:
    """Return the card as a JSON object without floats: measures are decimal strings."""
    return {
        "format": FORMAT,
        "run": facts.run,
        "plan": facts.plan,
        "consortium": facts.consortium,
        "bank": facts.bank,
        "product": facts.product,
        "purpose": facts.purpose,
        "label": facts.label,
        "definition": facts.definition,
        "trained": facts.trained,
        "nodes": list(facts.nodes),
        "view": model.view,
        "view_digest": model.view_digest,
        "privacy": {
            "unit": "enterprise",
            "mode": facts.mode,
            "rho": fraction_body(facts.rho),
            "epsilon": _rounded_up(facts.epsilon),
            "epsilon_once": _rounded_up(facts.epsilon_once),
            "delta": fraction_body(facts.delta),
        },
        "scale": {"base_score": BASE_SCORE, "base_odds": BASE_ODDS, "pdo": PDO},
        "evaluation": _evaluation(evaluation),
        **(_network(model) if isinstance(model, Network) else _scorecard(model)),
    }


def _scorecard(scorecard: Scorecard) -> dict[str, object]:
    return {
        "features": [
            {
                "name": feature.name,
                "text": feature.text.body(),
                "iv": f"{feature.iv:.4f}",
                "coefficient": f"{feature.coefficient:.4f}",
                "bins": [
                    {
                        "text": made.text.body(),
                        "share": f"{made.share:.4f}",
                        "woe": f"{made.woe:.4f}",
                        "points": f"{made.points:.1f}",
                    }
                    for made in feature.bins
                ],
            }
            for feature in scorecard.features
        ],
        "limitations": [text.body() for text in LIMITATIONS],
    }


def _network(network: Network) -> dict[str, object]:
    return {
        "network": {
            "inputs": [{"name": entry.name, "text": entry.text.body()} for entry in network.inputs],
            "hidden": list(network.hidden),
            "weights": len(network.weights),
        },
        "limitations": [text.body() for text in NETWORK_LIMITATIONS],
    }


def card_markdown(card: Mapping[str, object], language: Language) -> str:
    """Return a card of `model_card` as Markdown in one language."""
    zh = language == "zh"
    privacy = cast("dict[str, str]", card["privacy"])
    nodes = cast("list[str]", card["nodes"])
    lines = [
        f"# {'模型卡' if zh else 'Model card'}: {_plain(card['product'])}",
        "",
        *_table(
            ("项目", "内容") if zh else ("Item", "Value"),
            [
                ("银行" if zh else "Bank", _plain(card["bank"])),
                ("联合体" if zh else "Consortium", _plain(card["consortium"])),
                ("用途" if zh else "Purpose", _plain(card["purpose"])),
                ("标签" if zh else "Label", f"{card['label']}: {_plain(card['definition'])}"),
                ("特征视图" if zh else "Feature view", str(card["view"])),
                ("节点" if zh else "Nodes", ", ".join(nodes)),
                ("运行" if zh else "Run", str(card["run"])),
                ("计划" if zh else "Plan", str(card["plan"])),
                ("完成时间" if zh else "Trained", str(card["trained"])),
                (
                    "每家企业的隐私损耗" if zh else "Privacy cost to an enterprise",
                    _cost(privacy, zh=zh),
                ),
            ],
        ),
        "",
        *_evaluation_lines(cast("dict[str, object]", card["evaluation"]), zh=zh),
        *_model_lines(card, zh=zh),
    ]
    lines += [f"## {'局限' if zh else 'Limitations'}", ""]
    lines += [f"- {_said(text, zh=zh)}" for text in cast("list[object]", card["limitations"])]
    return "\n".join(lines) + "\n"


def _rounded_up(epsilon: float) -> str:
    """Return epsilon with four decimals: a privacy cost is never shown smaller than it is."""
    steps = -(-round(epsilon * 10**9) // 10**5)
    return f"{steps // 10**4}.{steps % 10**4:04d}"


def _cost(privacy: Mapping[str, str], *, zh: bool) -> str:
    cap, once = privacy["epsilon"], privacy["epsilon_once"]
    mode = _mode(privacy["mode"], zh=zh)
    if cap == once:
        return f"epsilon <= {cap} ({mode})"
    if zh:
        return f"epsilon <= {cap}；若无轮次重做则为 {once}（{mode}）"
    return f"epsilon <= {cap}, {once} if no round had to be asked again ({mode})"


def _model_lines(card: Mapping[str, object], *, zh: bool) -> list[str]:
    scale = (
        f"{BASE_ODDS}:1 时 {BASE_SCORE} 分，每增加 {PDO} 分，正常与违约之比翻倍。"
        if zh
        else f"{BASE_SCORE} points mean {BASE_ODDS} goods to one bad; {PDO} more double that."
    )
    if "network" in card:
        return _network_lines(cast("dict[str, object]", card["network"]), scale, zh=zh)
    lines = [f"## {'评分卡' if zh else 'Scorecard'}", "", scale, ""]
    for feature in cast("list[dict[str, object]]", card["features"]):
        lines += _feature_lines(feature, zh=zh)
    return lines


def _network_lines(network: Mapping[str, object], scale: str, *, zh: bool) -> list[str]:
    inputs = cast("list[dict[str, object]]", network["inputs"])
    hidden = " x ".join(str(width) for width in cast("list[int]", network["hidden"]))
    return [
        f"## {'神经网络' if zh else 'Network'}",
        "",
        (
            f"{len(inputs)} 个输入，隐藏层宽度 {hidden}，激活函数 tanh，"
            f"{network['weights']} 个权重。"
            if zh
            else f"{len(inputs)} inputs, hidden layers of width {hidden}, tanh,"
            f" {network['weights']} weights."
        ),
        "",
        scale,
        "",
        *(f"- {_said(entry['text'], zh=zh)}" for entry in inputs),
        "",
    ]


def _mode(mode: str, *, zh: bool) -> str:
    if mode == "node":
        return "每个节点各自加入全部噪声" if zh else "every node adds the whole noise"
    return "各节点共同加入噪声" if zh else "nodes share the noise"


def _evaluation(evaluation: Evaluation) -> dict[str, object]:
    return {
        "reportable": evaluation.reportable,
        "enterprises": round(evaluation.enterprises),
        "bads": round(evaluation.bads),
        "auc": _estimate(evaluation.auc),
        "ks": _estimate(evaluation.ks),
        "gini": _estimate(evaluation.gini),
        "bands": [
            {
                "low": f"{band.low:.1f}",
                "high": f"{band.high:.1f}",
                "share": f"{band.share:.4f}",
                "expected": f"{band.expected:.4f}",
                "measured": f"{band.measured:.4f}",
                "error": f"{band.error:.4f}",
            }
            for band in evaluation.bands
        ],
    }


def _estimate(estimate: Estimate) -> dict[str, str]:
    return {
        "value": f"{estimate.value:.4f}",
        "noise_error": f"{estimate.noise_error:.4f}",
        "sampling_error": f"{estimate.sampling_error:.4f}",
    }


def _evaluation_lines(evaluation: dict[str, object], *, zh: bool) -> list[str]:
    lines = [f"## {'留出评估' if zh else 'Hold-out evaluation'}", ""]
    if not evaluation["reportable"]:
        lines.append(
            "噪声过大，评估结果不予引用。" if zh else "The noise is too large to quote a measure."
        )
        return [*lines, ""]
    rows = []
    for name in ("auc", "ks", "gini"):
        found = cast("dict[str, str]", evaluation[name])
        rows.append((name.upper(), found["value"], found["noise_error"], found["sampling_error"]))
    lines += _table(
        ("指标", "数值", "噪声标准误", "抽样标准误")
        if zh
        else ("Measure", "Value", "SE, noise", "SE, sampling"),
        rows,
    )
    bands = cast("list[dict[str, str]]", evaluation["bands"])
    lines += [
        "",
        *_table(
            ("分数", "占比", "预期违约率", "实测违约率", "标准误")
            if zh
            else ("Score", "Share", "Bads expected", "Bads measured", "SE"),
            [
                (
                    _scores(place, len(bands), band),
                    band["share"],
                    band["expected"],
                    band["measured"],
                    band["error"],
                )
                for place, band in enumerate(bands)
            ],
        ),
        "",
    ]
    return lines


def _scores(place: int, bands: int, band: Mapping[str, str]) -> str:
    low = "" if place == 0 else band["low"]
    return f"{low} - {'' if place == bands - 1 else band['high']}".strip()


def _feature_lines(feature: Mapping[str, object], *, zh: bool) -> list[str]:
    bins = cast("list[dict[str, object]]", feature["bins"])
    coefficient = "系数" if zh else "coefficient"
    return [
        f"### {_said(feature['text'], zh=zh)}",
        "",
        f"IV {feature['iv']}, {coefficient} {feature['coefficient']}",
        "",
        *_table(
            ("分箱", "占比", "WOE", "分值") if zh else ("Bin", "Share", "WOE", "Points"),
            [
                (
                    _said(made["text"], zh=zh),
                    *(str(made[key]) for key in ("share", "woe", "points")),
                )
                for made in bins
            ],
        ),
        "",
    ]


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [heads, ("---",) * len(heads), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _said(text: object, *, zh: bool) -> str:
    return _plain(cast("dict[str, str]", text)["zh" if zh else "en"])


def _plain(value: object) -> str:
    """Return text that cannot break out of its table cell or line."""
    return " ".join(str(value).replace("|", "/").split())
