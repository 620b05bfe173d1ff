"""The words of the authorisation form, in both languages."""

from __future__ import annotations

from typing import Final

from hejin_trust.text import Text

TITLE: Final = Text("Authorisation of data use", "数据授权书")
ENTERPRISE: Final = Text("Enterprise (unified social credit code)", "企业（统一社会信用代码）")
PSEUDONYM: Final = Text("Named in the ledger", "账本中的化名")
CONTROLLER: Final = Text("Platform operator (controller)", "平台运营方（数据处理者）")
CONSORTIUM: Final = Text("Consortium", "联盟")
MADE: Final = Text("Form made", "表单制作时间")
WHAT: Final = Text("What is allowed", "授权内容")
PURPOSES: Final = Text("Purposes", "用途")
BANKS: Final = Text("Banks (recipients)", "银行（接收方）")
CATEGORIES: Final = Text("Kinds of data", "数据类别")
FEATURES: Final = Text("Features", "特征")
VALID: Final = Text("Valid", "有效期")
VALID_VALUE: Final = Text(
    "from {start} until before {end} (UTC)", "自 {start} 起，至 {end} 前（UTC）"
)
BASIS: Final = Text("Legal basis", "处理依据")
CONSENT: Final = Text("consent of the enterprise", "企业同意")
KNOW: Final = Text("What you should know before you sign", "签署前须知")
CONTACT: Final = Text("Contact", "联系方式")
RESPONSIBILITY: Final = Text("Responsibility", "责任主体")
FLOW: Final = Text("Where data go", "数据流向")
STORAGE: Final = Text("Storage", "存储")
RETENTION: Final = Text("Kept until", "保存期限")
WITHDRAWAL: Final = Text("How to withdraw", "撤回方式")
AFTERWARDS: Final = Text("After a withdrawal", "撤回之后")
SIGN: Final = Text(
    "Signing with the enterprise's own key (grade A)", "以企业自己的密钥签署（A 级）"
)
SIGN_HOW: Final = Text(
    "Once, make a key for this purpose alone, and show the operator whose it is. Then sign the "
    "file to-sign.bin that came with this form, and return signature.bin.",
    "首次使用时生成一把仅用于此目的的密钥，并向运营方证明其归属；然后签署随本表单提供的 "
    "to-sign.bin，交回 signature.bin。",
)
SIGN_WHAT: Final = Text(
    "It holds the terms above and, by its hash, record.json with everything on this page. A "
    "signature over it fits no other terms, no other enterprise and no other node.",
    "该文件包含上述条款，并以哈希涵盖 record.json，即本页全部内容。"
    "其签名不适用于其他条款、企业或节点。",
)
SEAL: Final = Text("Or on paper (grade B)", "或纸质签署（B 级）")
SEAL_HOW: Final = Text(
    "Sign and seal this page; the operator records the hash of its scan.",
    "在本页签字盖章；运营方登记其扫描件的哈希。",
)
SEAL_LINE: Final = Text("Signature, seal, date", "签字、盖章、日期")
DOCUMENT: Final = Text("SHA-256 of record.json (document)", "record.json 的 SHA-256（document）")
