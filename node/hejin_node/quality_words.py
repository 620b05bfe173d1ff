"""Every fixed text of the quality report, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

from hejin_models.features import Category
from hejin_models.quality import Dimension
from hejin_trust.text import Text

TITLE = Text("Data quality report", "数据集质量报告")
NODE = Text("Node", "节点")
CHECKED = Text("Checked", "检查时间")
CHECKED_VALUE = Text("{utc} UTC (Beijing time {beijing})", "北京时间 {beijing}（UTC {utc}）")
SOFTWARE = Text("Software", "软件")
FOR_WHOM = Text("For whom", "使用范围")
OPERATOR_ONLY = Text(
    "The node's operator alone: section 4 names enterprises. No bank gets any of it.",
    "仅供节点运营方：第 4 节列有企业代码。银行得不到其中任何内容。",
)

CATEGORIES: Mapping[Category, Text] = {
    "production": Text("production", "生产经营"),
    "equipment": Text("equipment", "设备运行"),
    "trade": Text("trade", "采购销售"),
    "logistics": Text("logistics", "仓储物流"),
    "fulfilment": Text("fulfilment", "订单履约"),
}
NO_SCHEMA = Text("without schema", "无数据规范")

# -- 1 overview ------------------------------------------------------------------------------
OVERVIEW = Text("1. Data sets and their gates", "1. 数据集与质量门槛")
OVERVIEW_NOTE = Text(
    "A score is the mean over the dimension's rules of the share that holds; — where no rule "
    "applied. A category's is the mean of its data sets'. Rows in quarantine count as not held. "
    "Shares are rounded down.",
    "得分为该维度各规则成立比例的平均值；无适用规则时记“—”；类别得分为其数据集得分的平均值。隔离行计为不成立。比例向下取舍。",
)
DATASET = Text("Data set", "数据集")
ROWS = Text("Rows", "行数")
QUARANTINED = Text("In quarantine", "隔离行数")
ENTERPRISES = Text("Enterprises", "企业数")
NEWEST = Text("Newest day", "最新日期")
GATE = Text("Gate", "门槛")
PASSED = Text("✓ passed", "✓ 通过")
FAILED = Text("✗ not passed", "✗ 未通过")
NO_GATE = Text("none", "无")
NO_DATASETS = Text("The warehouse has no data set.", "数据仓库中没有数据集。")

# -- 2 views ---------------------------------------------------------------------------------
VIEWS = Text("2. Feature views", "2. 特征视图")
VIEWS_NOTE = Text(
    "A plan can be approved where all data sets of its feature view pass. Only rules count that "
    "concern a column which the view reads.",
    "特征视图的全部数据集通过门槛，其计划方可批准。只计入涉及该视图所读列的规则。",
)
VIEW = Text("Feature view", "特征视图")
RESULT = Text("Result", "结果")
WHY = Text("Why not", "原因")
NO_VIEWS = Text("No feature view is installed.", "未安装特征视图。")

# -- 3 each data set -------------------------------------------------------------------------
EACH = Text("3. Each data set", "3. 各数据集")
DIMENSIONS_CHART = Text("Five dimensions", "五个维度")
LEGEND_LEAST = Text("least to pass", "通过下限")
TREND_CHART = Text("Over the last checks", "历次检查")
MONTHS_CHART = Text("Rows by month of the event", "按发生月份的行数")
SPREAD_CHART = Text("Enterprises by score", "企业得分分布")
NO_TREND = Text("One check so far: no trend yet.", "目前仅检查一次，尚无趋势。")
WORST = Text("Rules that do not always hold", "未全部成立的规则")
ALL_HOLD = Text("Every rule always holds.", "全部规则均成立。")
RULE = Text("Rule", "规则")
MEANING = Text("What must hold", "须成立的内容")
DIMENSION = Text("Dimension", "维度")
APPLIED = Text("Applied", "适用次数")
HELD = Text("Held", "成立次数")
SHARE = Text("Share", "比例")
QUARANTINE = Text("Rows in quarantine, by the rule of ingest", "隔离行（按导入规则）")
SOURCES = Text("Sources that this check covers", "本次检查涵盖的来源")
SOURCES_NOTE = Text(
    "Check no. {number}: hejin node data lineage --report {number}",
    "第 {number} 号检查：hejin node data lineage --report {number}",
)
LOAD = Text("Load", "导入")
SOURCE = Text("Source", "来源")
CONTENT = Text("Content, SHA-256", "内容 SHA-256")
COMPLETED = Text("Completed", "完成时间")
ROWS_LEFT = Text("{left} more rows: --json", "另有 {left} 行：--json")

# -- 4 enterprises ---------------------------------------------------------------------------
WEAKEST = Text("4. Enterprises with the lowest scores", "4. 得分最低的企业")
WEAKEST_NOTE = Text(
    "The mean of an enterprise's scores in a data set, lowest first, and the weakest rule. "
    "A low score is about the data, not about the enterprise.",
    "按企业在该数据集中各维度得分的平均值由低到高排列，并列出成立比例最低的规则。得分低指数据，不指企业本身。",
)
ENTERPRISE = Text("Enterprise", "企业")
SCORE = Text("Score", "得分")
WEAKEST_RULE = Text("Weakest rule", "最弱规则")
NO_WEAK = Text("Every enterprise's data obey every rule.", "所有企业的数据均符合全部规则。")

# -- 5 terms ---------------------------------------------------------------------------------
TERMS = Text("5. The five dimensions", "5. 五个维度")
TERMS_LIST: Mapping[Dimension, Text] = {
    "completeness": Text("Values are there, and no month is missing.", "数值不缺失，月份不缺失。"),
    "validity": Text(
        "Values are of their type, in their range and among those allowed.",
        "数值符合类型、范围与取值要求。",
    ),
    "consistency": Text(
        "Values of a row do not contradict each other.", "同一行中的数值互不矛盾。"
    ),
    "uniqueness": Text("Nothing is there twice.", "没有重复记录。"),
    "timeliness": Text(
        "An enterprise's newest row is about as new as the data set's. Whether the whole data set "
        "is old, its newest day tells.",
        "企业的最新记录与数据集的最新记录相近。数据集整体是否陈旧，见其最新日期。",
    ),
}
LIMITS = Text("What this does not tell", "本报告不说明")
LIMITS_LIST = (
    Text(
        "Whether the data are true: it compares them with their rules and with each other.",
        "数据是否真实：本报告只将数据与规则及其相互之间比较。",
    ),
    Text(
        "Which enterprises are missing altogether.",
        "哪些企业完全没有数据。",
    ),
)
