"""Certificates for tests: an authority made for one of them, and what it signs, as PEM files."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Authority:
    """A certificate authority; what it signs lies in `folder`."""

    folder: Path
    key: rsa.RSAPrivateKey
    name: x509.Name

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    def issued(self, name: str, *, host: str = LOOPBACK, ended: bool = False) -> tuple[Path, Path]:
        """A certificate of `name` for a host, and its key; the first file holds both. `ended`: no longer valid."""
        key = rsa.generate_private_key(65537, 2048)
        built = _builder(_named(name), self.name, key, ended).add_extension(_alternative(host), False)
        pem = built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        both, alone = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        both.write_bytes(_pem(key) + pem)
        alone.write_bytes(_pem(key))
        alone.chmod(0o600)  # libpq refuses a key that others may read
        return both, alone


def authority(folder: Path) -> Authority:
    """A new one, by the name of its folder."""
    folder.mkdir()
    key = rsa.generate_private_key(65537, 2048)
    name = _named(folder.name)
    built = _builder(name, name, key).add_extension(x509.BasicConstraints(True, None), True)
    made = Authority(folder, key, name)
    made.certificate.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return made


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _alternative(host: str) -> x509.SubjectAlternativeName:
    try:
        return x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    except ValueError:
        return x509.SubjectAlternativeName([x509.DNSName(host)])


def _builder(
    name: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey, ended: bool = False
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now - timedelta(days=1) if ended else now + timedelta(days=1))
    )


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    pkcs8 = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption())
