"""What an enterprise is given to sign: a page to read, the record, and the exact bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hejin_console.page import render
from hejin_node import consent_words, form_words
from hejin_node.consent import grant_body
from hejin_node.record import Record
from hejin_trust.authorisation import ANY, statement_to_sign
from hejin_trust.canonical import time_text
from hejin_trust.files import make_folder, replace_file
from hejin_trust.text import Language, current_language

PAGE: Final = "form.html"
RECORD: Final = "record.json"
TO_SIGN: Final = "to-sign.bin"


def write_form(folder: Path, record: Record, origin: str) -> None:
    """Write the three files of a form, for their owner only; raises FileError.

    origin  of the internal log that will hold the grant
    """
    make_folder(folder, mode=0o700)
    replace_file(folder / PAGE, render_form(record, current_language()).encode(), mode=0o600)
    replace_file(folder / RECORD, record.raw, mode=0o600)
    to_sign = statement_to_sign(origin, grant_body(record.pseudonym, record.code, record.terms))
    replace_file(folder / TO_SIGN, to_sign, mode=0o600)


def render_form(record: Record, language: Language) -> str:
    """Return the page that an enterprise reads before it signs, as HTML."""
    terms, notice, w = record.terms, record.notice, form_words
    return render(
        "hejin_node",
        "form.html.jinja",
        "form.css",
        language,
        record=record,
        purposes=consent_words.purposes(terms.purposes),
        categories=consent_words.categories(terms.categories),
        features=consent_words.features(terms.features),
        all_banks=consent_words.ALL_BANKS if terms.banks == (ANY,) else None,
        start=time_text(terms.valid_from),
        end=time_text(terms.valid_to),
        notice=[
            (w.CONTACT, notice.contact),
            (w.RESPONSIBILITY, notice.responsibility),
            (w.FLOW, notice.flow),
            (w.STORAGE, notice.storage),
            (w.RETENTION, notice.retention),
            (w.WITHDRAWAL, notice.withdrawal),
            (w.AFTERWARDS, notice.afterwards),
        ],
        w=form_words,
    )
