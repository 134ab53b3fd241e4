"""Certificates that callers of tests show."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PEM = serialization.Encoding.PEM


def signed_by_itself(key, name):
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    return built.sign(key, hashes.SHA256())


def public_pem(key):
    return key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def self_signed(folder, name):
    """The public key of a new certificate, and the file with it and its private key."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / f"{name}.pem"
    file.write_bytes(signed_by_itself(key, name).public_bytes(PEM) + private)
    return public_pem(key), file


def pair_of(folder, issued):
    """The file of what `client.certificate` answered."""
    file = folder / "issued.pem"
    file.write_text(issued["certificate"] + issued["key"])
    return file
