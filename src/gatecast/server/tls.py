"""TLS for the gateway listener: the given certificate, or a self-made one."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gatecast.errors import SettingInvalid
from gatecast.settings import Settings, variable

_VALID = timedelta(days=825)


def gateway_tls(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context of the gateway listener; None when a proxy in front of it ends TLS.

    Raises:
        SettingInvalid: the certificate or its key cannot be loaded.
    """
    if settings.gateway_tls == "off":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if settings.gateway_tls == "auto":
        _load_self_made(context, settings.gateway_listen.rpartition(":")[0])
    else:
        _load_given(context, settings)
    return context


def _load_given(context: ssl.SSLContext, settings: Settings) -> None:
    try:
        context.load_cert_chain(settings.gateway_tls, settings.gateway_tls_key or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingInvalid(
            variable("gateway_tls"),
            settings.gateway_tls,
            f"be `auto`, `off`, or a certificate file whose key GATECAST_GATEWAY_TLS_KEY names ({error})",
        ) from error


def _load_self_made(context: ssl.SSLContext, host: str) -> None:
    """The standard library loads certificates from files only, so the key touches the disk for a moment."""
    certificate, key = make_certificate(host)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.pem"
        path.touch(mode=0o600)
        path.write_bytes(key + certificate)
        context.load_cert_chain(path)


def make_certificate(host: str) -> tuple[bytes, bytes]:
    """A self-signed certificate for `host` and localhost, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gatecast")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key_bytes


def _names(host: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ip_address("127.0.0.1")),
        x509.IPAddress(ip_address("::1")),
    ]
    try:
        given: x509.GeneralName = x509.IPAddress(ip_address(host.strip("[]")))
    except ValueError:
        given = x509.DNSName(host)
    return names if given in names else [*names, given]
