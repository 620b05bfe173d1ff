"""A member's own folder: its keys, certificate and charter, from request to admission.

keys/identity.key  keys/log.key  keys/tls.key   0600, made once
request.json       the enrolment request for the regulator
tls.pem            the certificate, once admitted
charter.json       the charter in force
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hejin_trust.canonical import fraction_body
from hejin_trust.charter import Charter, CharterSource
from hejin_trust.clock import now
from hejin_trust.enrolment import make_request, open_admission
from hejin_trust.errors import HejinError
from hejin_trust.files import replace_file
from hejin_trust.keys import SigningKey, load_tls_key, new_tls_key, read_private, write_private
from hejin_trust.members import Member, Role
from hejin_trust.text import Text


class MembershipError(HejinError):
    """The folder is not that of an admitted member."""

    code = "not-a-member"


@dataclass(frozen=True, slots=True)
class Membership:
    """Who this process is. `charter` is re-read when its file changes."""

    member: str
    role: Role
    identity: SigningKey
    log_key: SigningKey
    tls_key_pem: bytes
    certificate_pem: bytes
    charters: CharterSource

    @property
    def charter(self) -> Charter:
        """The charter in force."""
        return self.charters.current()

    @property
    def me(self) -> Member:
        """This member as the charter names it."""
        return self.charter.member(self.member, self.role)

    def genesis(self) -> dict[str, object]:
        """Return the body of the `genesis` entry that opens each of this member's logs."""
        charter, me = self.charter, self.me
        return {
            "charter": charter.digest,
            "certificate": me.certificate_fingerprint,
            "log_key": me.log_key.hex(),
            "rho_cap": fraction_body(charter.rho_cap),
            "rho_alone_cap": fraction_body(charter.rho_alone_cap),
            "delta": fraction_body(charter.delta),
            "period_from": charter.period_from,
            "period_to": charter.period_to,
        }


def found(
    home: Path,
    *,
    member: str,
    role: Role,
    name: Text,
    size_band: tuple[int, int] | None = None,
    address: str | None = None,
) -> Path:
    """Make the member's keys and its enrolment request; return the request's path.

    raises   KeyFileError if the folder already holds keys; EnrolmentError for bad details
    """
    identity, log_key, tls_key = SigningKey.generate(), SigningKey.generate(), new_tls_key()
    request = make_request(
        member=member,
        role=role,
        name=name,
        identity=identity,
        log=log_key,
        tls_key_pem=tls_key,
        at=now(),
        size_band=size_band,
        address=address,
    )
    keys = home / "keys"
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity.save(keys / "identity.key")
    log_key.save(keys / "log.key")
    write_private(keys / "tls.key", tls_key)
    path = home / "request.json"
    replace_file(path, request)
    return path


def identity_key(home: Path) -> str:
    """Return the member's public identity key, hex: what the regulator sees in its request."""
    return SigningKey.load(home / "keys" / "identity.key").public.hex()


def join(home: Path, member: str, regulator_key: bytes, admission: bytes) -> Charter:
    """Accept the regulator's admission: store certificate and charter, return the charter.

    raises   EnrolmentError if it is not the pinned regulator's answer to this member's request
    """
    identity, log_key, tls_key = _keys(home)
    accepted = open_admission(
        admission,
        regulator_key=regulator_key,
        member=member,
        identity_key=identity.public,
        log_key=log_key.public,
        tls_key_pem=tls_key,
        at=now(),
    )
    replace_file(home / "tls.pem", accepted.certificate.encode())
    return CharterSource(home / "charter.json", regulator_key).update(accepted.charter_envelope)


def load(home: Path, member: str, role: Role, regulator_key: bytes) -> Membership:
    """Return the membership in `home`; MembershipError before `join`, KeyFileError if damaged."""
    identity, log_key, tls_key = _keys(home)
    try:
        certificate = (home / "tls.pem").read_bytes()
    except OSError as reason:
        raise MembershipError(
            f"{home} holds no certificate yet: send request.json to the regulator, then run join",
            f"{home} 尚无证书：请将 request.json 交给监管方，然后执行 join",
        ) from reason
    return Membership(
        member=member,
        role=role,
        identity=identity,
        log_key=log_key,
        tls_key_pem=tls_key,
        certificate_pem=certificate,
        charters=CharterSource(home / "charter.json", regulator_key),
    )


def _keys(home: Path) -> tuple[SigningKey, SigningKey, bytes]:
    keys = home / "keys"
    tls_key = read_private(keys / "tls.key")
    load_tls_key(tls_key)
    return SigningKey.load(keys / "identity.key"), SigningKey.load(keys / "log.key"), tls_key
