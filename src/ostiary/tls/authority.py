"""A small authority of our own: made at first start, its certificates renewed before they lapse."""

import ipaddress
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from ostiary.foundation.errors import OperatorFault, SystemFault
from ostiary.foundation.home import Home, read_private, write_atomically, write_once

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 90
RENEW_DAYS: Final = LEAF_DAYS // 3  # renewed when a third of its life remains
OVERDUE: Final = timedelta(days=RENEW_DAYS - 1)  # it was to be renewed a day ago, and control tries every hour
CA, GATE, GATE_KEY = "ca.crt", "gate.crt", "gate.key"
NOT_RENEWED: Final = "the output of `ostiary up` says why it could not be renewed; mend that, it is tried every hour"
NEW_AUTHORITY: Final = "move ca.key and ca.crt away, start again, and give callers the new ca.crt"
BACKDATED: Final = timedelta(minutes=5)  # for clocks that lag behind
OTHER_USES: Final = (
    "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only",
)  # fmt: skip
SHOWN: Final = 0o644  # a certificate is public
NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")  # common name (X.520: 64) and DNS name


class Issued(Struct, frozen=True, kw_only=True):
    """A certificate with its key, both PEM; the key is kept by nobody else."""

    certificate: bytes
    key: bytes

    @property
    def public_key(self) -> Any:
        return x509.load_pem_x509_certificate(self.certificate).public_key()

    @property
    def fingerprint(self) -> str:
        """SHA-256, as Envoy writes it."""
        return x509.load_pem_x509_certificate(self.certificate).fingerprint(hashes.SHA256()).hex()


def ensure(home: Home, host: str, now: datetime | None = None) -> None:
    """The gate's certificate for `host`, valid for at least a third of its life; made or renewed where needed."""
    at = now or datetime.now(UTC)
    signer = _authority(home, at)
    if not _serves(home, host, at, signer[0]):
        issued = _issue(signer, host, _names(host), purpose=ExtendedKeyUsageOID.SERVER_AUTH, at=at, days=LEAF_DAYS)
        write_atomically(home.keys / GATE_KEY, issued.key, durable=True)
        write_atomically(home.keys / GATE, issued.certificate, mode=SHOWN, durable=True)


def issue_client(home: Home, name: str, *, days: int = LEAF_DAYS, now: datetime | None = None) -> Issued:
    """A client certificate for a partner called `name` (common name and DNS name of the same text)."""
    if not NAME.fullmatch(name) or not 1 <= days <= CA_DAYS:
        hint = f"letters, digits, dots and hyphens, at most 64; 1 to {CA_DAYS} days"
        raise OperatorFault("certificate-name", f"no certificate can be made for {name!r} and {days} days", hint=hint)
    at = now or datetime.now(UTC)
    return _issue(
        _authority(home, at), name, [x509.DNSName(name)], purpose=ExtendedKeyUsageOID.CLIENT_AUTH, at=at, days=days
    )


def standing(home: Home, now: datetime | None = None) -> str:
    """How long the gate's certificate is good for; raises where it or its authority's is about to lapse or is missing.

    Without the authority's key nothing is renewed.
    """
    left = ages(home, now)
    _signer(home)
    for name, least, hint in ((CA, timedelta(days=LEAF_DAYS), NEW_AUTHORITY), (GATE, OVERDUE, NOT_RENEWED)):
        if left[name] < least:
            told = f"is good for only {left[name].days} days more" if left[name] > timedelta() else "has lapsed"
            raise SystemFault("certificate-old", f"{home.keys / name} {told}", hint=hint)
    return f"good for {left[GATE].days} days, renewed by itself"


def ages(home: Home, now: datetime | None = None) -> dict[str, timedelta]:
    """How long each certificate is still valid (negative: lapsed), by file name; raises where one is missing."""
    at = now or datetime.now(UTC)
    return {name: _read(home.keys / name).not_valid_after_utc - at for name in (CA, GATE)}


_Signer = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _authority(home: Home, at: datetime) -> _Signer:
    """The key comes first: an authority whose certificate was not written yet is finished, never replaced."""
    path, shown = home.keys / "ca.key", home.keys / CA
    if not shown.exists():
        write_once(path, _pem(ec.generate_private_key(ec.SECP256R1())))
        made = _self_signed(_read_key(path), at).public_bytes(serialization.Encoding.PEM)
        write_atomically(shown, made, mode=SHOWN, durable=True)
    return _signer(home)


def _signer(home: Home) -> _Signer:
    certificate, key = _read(home.keys / CA), _read_key(home.keys / "ca.key")
    if certificate.public_key() != key.public_key():
        raise _unfit(home.keys / CA, "does not belong to ca.key")
    return certificate, key


def _self_signed(key: ec.EllipticCurvePrivateKey, at: datetime) -> x509.Certificate:
    name = _common_name("Ostiary authority")
    return _unsigned(name, name, key.public_key(), at, CA_DAYS, ca=True).sign(key, hashes.SHA256())


def _issue(
    signer: _Signer,
    name: str,
    names: Iterable[x509.GeneralName],
    *,
    purpose: x509.ObjectIdentifier,
    at: datetime,
    days: int,
) -> Issued:
    ca, ca_key = signer
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _unsigned(_common_name(name[:64]), ca.subject, key.public_key(), at, days, ca=False)  # X.520: ub-common-name
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return Issued(certificate=certificate.public_bytes(serialization.Encoding.PEM), key=_pem(key))


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, at: datetime, days: int, *, ca: bool
) -> x509.CertificateBuilder:
    """What every certificate of ours has."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - BACKDATED)
        .not_valid_after(at + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(_usage(ca=ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **dict.fromkeys(OTHER_USES, False))


def _serves(home: Home, host: str, at: datetime, ca: x509.Certificate) -> bool:
    shown, path = home.keys / GATE, home.keys / GATE_KEY
    if not (shown.exists() and path.exists()):
        return False
    certificate, key = _read(shown), _read_key(path)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        certificate.public_key() == key.public_key()  # else a stop between the two files would stay for ever
        and _issued_by(certificate, ca)
        and set(names) == set(_names(host))
        and certificate.not_valid_after_utc - at > timedelta(days=RENEW_DAYS)
    )


def _issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """By this very key: every authority of ours has the same name."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _names(host: str) -> list[x509.GeneralName]:
    return [_name(text) for text in dict.fromkeys((host, "localhost", "127.0.0.1"))]


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as problem:
        raise _unfit(path, "is missing or is not a certificate") from problem


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_private(path), None)
    except (OSError, ValueError, TypeError) as problem:
        raise _unfit(path, "is missing or is not a private key") from problem
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unfit(path, "is not an elliptic-curve key")
    return key


def _unfit(path: Path, what: str) -> OperatorFault:
    hint = "the first start makes it; later on, restore keys/ from a backup"
    return OperatorFault("certificate-unfit", f"{path} {what}", hint=hint)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
