"""The bank's models on disk: signed JSON documents and a card a person can read.

models/MODEL/model.json      DSSE envelope: scorecard or network, its card, plan, run
models/MODEL/card.en.md      the model card; card.zh.md the same in Chinese
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hejin_coordinator import store
from hejin_coordinator.errors import CoordinatorError
from hejin_coordinator.home import CoordinatorHome
from hejin_coordinator.store import StoredPlan
from hejin_models.card import CardFacts, card_markdown, model_card
from hejin_models.families import FamilyResult
from hejin_models.network_model import Network
from hejin_models.scorecard import Scorecard
from hejin_privacy.accounting import epsilon
from hejin_trust.canonical import child, encode, text, time_text
from hejin_trust.database import writing
from hejin_trust.envelope import MODEL, open_envelope, seal
from hejin_trust.files import replace_file
from hejin_trust.text import current_language


class UnknownModelError(CoordinatorError):
    """There is no such model in the registry."""

    code = "model-unknown"


@dataclass(frozen=True, slots=True)
class Model:
    """One registered model; `body` is what the bank signed."""

    id: str
    folder: Path
    body: dict[str, object]

    @property
    def product(self) -> str:
        """The product it was trained for."""
        return text(self.body, "product")

    @property
    def plan(self) -> str:
        """The plan's hash."""
        return text(self.body, "plan")

    @property
    def state(self) -> str:
        """How far it is on its way to use: a new model is a draft."""
        return text(self.body, "state")

    @property
    def trained(self) -> Scorecard | Network:
        """The model itself."""
        if "network" in self.body:
            return Network.from_body(child(self.body, "network"))
        return Scorecard.from_body(child(self.body, "scorecard"))

    def summary(self) -> dict[str, str]:
        """Return the line that lists it."""
        return {
            "model": self.id,
            "product": self.product,
            "state": self.state,
            "plan": self.plan,
        }

    def card(self) -> str:
        """Return its card in the current language."""
        return (self.folder / f"card.{current_language()}.md").read_text(encoding="utf-8")


def register(home: CoordinatorHome, stored: StoredPlan, run: str, result: FamilyResult) -> Model:
    """Sign the model, write its folder, log it, and mark the plan done.

    The files are written first: a crash before the log entry leaves a run that is carried
    out again from its stored totals and writes the same model.
    """
    plan = stored.plan
    trained = time_text(home.now())
    card = model_card(_facts(home, stored, run, trained), result.model, result.evaluation)
    body: dict[str, object] = {
        "v": 1,
        "model": f"{plan.family}-{run[:8]}",
        "product": plan.product,
        "state": "draft",
        "bank": home.member_id,
        "plan": stored.digest,
        "run": run,
        "created": trained,
        plan.family: result.model.body(),
        "card": card,
    }
    name = str(body["model"])
    folder = home.models_folder / name
    folder.mkdir(parents=True, exist_ok=True)
    envelope = seal(MODEL, body, home.identity, home.member_id)
    replace_file(folder / "model.json", envelope)
    for language in ("en", "zh"):
        markdown = card_markdown(card, language)
        replace_file(folder / f"card.{language}.md", markdown.encode())
    signed = open_envelope(envelope, MODEL, home.identity.public, home.member_id)
    with writing(home.database) as connection:
        home.release_log.append(
            connection,
            "model",
            {
                "run": run,
                "plan": stored.digest,
                "model": signed.digest,
                "card": hashlib.sha256(encode(card)).hexdigest(),
            },
        )
        home.release_log.checkpoint(connection)
        store.set_state(connection, stored.digest, "done")
    return Model(name, folder, signed.body)


def _facts(home: CoordinatorHome, stored: StoredPlan, run: str, trained: str) -> CardFacts:
    plan, delta = stored.plan, home.charter.delta
    return CardFacts(
        run=run,
        plan=stored.digest,
        consortium=plan.consortium,
        bank=plan.bank,
        product=plan.product,
        purpose=plan.purpose,
        label=plan.label.name,
        definition=plan.label.definition,
        nodes=plan.nodes,
        mode=plan.mode,
        rho=plan.rho,
        epsilon=epsilon(plan.rho, float(delta)),
        epsilon_once=epsilon(plan.rho_once, float(delta)),
        delta=delta,
        trained=trained,
    )


def models(home: CoordinatorHome) -> list[Model]:
    """Return the registered models by name, each with its signature checked."""
    return list(_models(home))


def find(home: CoordinatorHome, name: str) -> Model:
    """Return one model; raises UnknownModelError."""
    for model in _models(home):
        if model.id == name:
            return model
    raise UnknownModelError(
        "there is no model of that name: `hejin coordinator models list` shows them",
        "没有该名称的模型：可用 `hejin coordinator models list` 查看",
    )


def _models(home: CoordinatorHome) -> Iterator[Model]:
    for path in sorted(home.models_folder.glob("*/model.json")):
        signed = open_envelope(path.read_bytes(), MODEL, home.identity.public, home.member_id)
        yield Model(text(signed.body, "model"), path.parent, signed.body)
