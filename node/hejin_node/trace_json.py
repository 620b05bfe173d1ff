"""A trace as one JSON object, for the statement's recipients and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from hejin_node.reasons import Reason
from hejin_node.trace import GrantLine, RunLine, SumLine, Trace, loss
from hejin_trust.canonical import fraction_body, time_text


def trace_json(found: Trace, delta: Fraction) -> Mapping[str, object]:
    """Return the trace for `--json`.

    enterprise, pseudonym, at
    grants  [{seq, granted, grade, document, purposes, banks, categories, features, valid_from,
            valid_to, revoked_at or null}]
    keys    [{seq, key, evidence}]
    erased  [time]
    questions  [{session, bank, definition, period, time, answered}]: asking for its outcome
    runs    [{run, plan, bank, purpose, view, began, open, grant or null, part or null,
            why: [{code, grant or null, since or null, en, zh}], sums: [{reservation, round, part,
            statistic, period, charged, released or null, rho, counted: true, false or null
            (unknown), grant or null, why or null}]}]
    costs   [{period, sums, rho, epsilon, rho_alone, epsilon_alone}]: of the sums that hold its
            data, `alone` if all other nodes colluded with the bank; epsilon at `delta`
    """
    return {
        "enterprise": found.code,
        "pseudonym": found.pseudonym,
        "at": found.at,
        "grants": [_grant(line) for line in found.grants],
        "keys": [{"seq": one.seq, "key": one.key, "evidence": one.evidence} for one in found.keys],
        "erased": list(found.erased),
        "questions": [
            {
                "session": one.session,
                "bank": one.bank,
                "definition": one.definition,
                "period": one.period,
                "time": one.time,
                "answered": one.state == "answered",
            }
            for one in found.questions
        ],
        "runs": [_run(run) for run in found.runs],
        "costs": [
            {
                "period": one.period,
                "sums": one.sums,
                "rho": fraction_body(one.rho),
                "epsilon": loss(one.rho, delta),
                "rho_alone": fraction_body(one.rho_alone),
                "epsilon_alone": loss(one.rho_alone, delta),
            }
            for one in found.costs
        ],
        "delta": fraction_body(delta),
    }


def _grant(line: GrantLine) -> Mapping[str, object]:
    one, terms = line.authorisation, line.authorisation.terms
    return {
        "seq": one.seq,
        "granted": line.granted,
        "grade": terms.grade,
        "document": terms.document,
        "purposes": terms.purposes,
        "banks": terms.banks,
        "categories": terms.categories,
        "features": terms.features,
        "valid_from": time_text(terms.valid_from),
        "valid_to": time_text(terms.valid_to),
        "revoked_at": one.revoked_at,
    }


def _run(run: RunLine) -> Mapping[str, object]:
    plan = run.plan
    return {
        "run": run.run,
        "plan": run.digest,
        "bank": plan.bank,
        "purpose": plan.purpose,
        "view": f"{plan.view.name}-v{plan.view.version}",
        "began": run.began,
        "open": run.open,
        "grant": run.grant,
        "part": run.part,
        "why": [_reason(reason) for reason in run.why],
        "sums": [_sum(line) for line in run.sums],
    }


def _sum(line: SumLine) -> Mapping[str, object]:
    return {
        "reservation": line.reservation,
        "round": line.round,
        "part": line.part,
        "statistic": line.statistic,
        "period": line.period,
        "charged": line.charged,
        "released": line.released,
        "rho": fraction_body(line.cost),
        "counted": line.counted,
        "grant": line.grant,
        "why": None if line.why is None else _reason(line.why),
    }


def _reason(reason: Reason) -> Mapping[str, object]:
    return {
        "code": reason.code,
        "grant": reason.grant,
        "since": reason.since,
        "en": reason.text.en,
        "zh": reason.text.zh,
    }
