"""A small consortium with real keys and certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from hejin_trust import certificates
from hejin_trust.canonical import time_text
from hejin_trust.charter import Charter
from hejin_trust.keys import SigningKey, load_tls_key, new_tls_key
from hejin_trust.members import Member, Role
from hejin_trust.text import Text


@dataclass(frozen=True)
class Person:
    """One party's private side; `member` is its charter entry."""

    member: Member
    identity: SigningKey
    log: SigningKey
    tls_key: bytes
    certificate: str


@dataclass
class House:
    """A regulator with everything it knows; `charter` follows the people."""

    now: datetime
    authority_key: bytes
    authority: str
    people: dict[str, Person] = field(default_factory=dict)
    serial: int = 1
    nonce: bytes = b"n" * 32

    def enrol(self, name: str, role: Role, **certificate: timedelta) -> Person:
        """Add a party; `lifetime` sets how long its certificate is valid."""
        identity, log, tls_key = SigningKey.generate(), SigningKey.generate(), new_tls_key()
        pem = self.certify(name, role, tls_key, **certificate)
        member = Member(
            id=name,
            role=role,
            name=Text(name.title(), "成员"),
            identity_key=identity.public,
            log_key=log.public,
            certificate_fingerprint=certificates.fingerprint(pem),
            size_band=(100, 5000) if role == "node" else None,
        )
        person = self.people[name] = Person(member, identity, log, tls_key, pem)
        return person

    def certify(self, name: str, role: Role, tls_key: bytes, **certificate: timedelta) -> str:
        """Return a certificate of this house's authority."""
        return certificates.issue(
            self.authority,
            self.authority_key,
            load_tls_key(tls_key).public_key(),
            member_id=name,
            role=role,
            consortium="hebei",
            at=self.now,
            **certificate,
        )

    def revoke(self, name: str) -> None:
        """Mark a member revoked and raise the serial."""
        person = self.people[name]
        self.people[name] = replace(person, member=replace(person.member, status="revoked"))
        self.serial += 1

    @property
    def regulator(self) -> Person:
        return self.people["regulator"]

    @property
    def charter(self) -> Charter:
        return Charter(
            consortium="hebei",
            serial=self.serial,
            issued=time_text(self.now),
            regulator=self.regulator.member,
            ca_certificate=self.authority,
            members=tuple(p.member for p in self.people.values() if p.member.role != "regulator"),
            rho_cap=Fraction(1, 10),
            rho_alone_cap=Fraction(3, 10),
            delta=Fraction(1, 10**6),
            period_from=time_text(self.now),
            period_to=time_text(self.now + timedelta(days=365)),
            minimum_nodes=2,
            minimum_enterprises=100,
            r=1,
            nonce=self.nonce,
        )

    def sealed(self) -> bytes:
        """Return the charter envelope."""
        return self.charter.seal(self.regulator.identity)


@pytest.fixture
def make_house() -> Callable[[], House]:
    """Return a maker of houses: regulator, bank-a, node-a and node-b, all admitted."""

    def make() -> House:
        now = datetime.now(UTC).replace(microsecond=0)
        key = new_tls_key()
        house = House(now, key, certificates.new_authority("hebei", key, now))
        house.enrol("regulator", "regulator")
        house.enrol("bank-a", "bank")
        house.enrol("node-a", "node")
        house.enrol("node-b", "node")
        return house

    return make


@pytest.fixture
def house(make_house: Callable[[], House]) -> House:
    """A fresh consortium."""
    return make_house()
