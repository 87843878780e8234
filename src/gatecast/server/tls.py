"""TLS for the gateway listener: the given certificate, or a self-made one."""

from __future__ import annotations

import asyncio
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
from gatecast.telemetry import get_logger

#: How often the files of a certificate are checked for changes, in seconds.
LOOK_INTERVAL = 20.0

_VALID = timedelta(days=825)

_logger = get_logger("tls")


class GatewayTls:
    """The gateway listener's certificate, which may be renewed while the pod runs."""

    def __init__(self, settings: Settings) -> None:
        """Load it.

        Raises:
            SettingInvalid: the certificate or its key cannot be loaded.
        """
        self._settings = settings
        self._certificate, self._key = settings.gateway_tls, settings.gateway_tls_key or None
        self._loaded = self._read()
        #: For the next handshake; None if a proxy terminates TLS. Open connections keep the one they began with.
        self.context = self._context()

    @property
    def renewable(self) -> bool:
        """Whether the certificate comes from files."""
        return self._settings.gateway_tls not in ("auto", "off")

    async def follow(self, interval: float) -> None:
        """Check every `interval` seconds whether the files were renewed."""
        while True:
            await asyncio.sleep(interval)
            await asyncio.to_thread(self.renew)

    def renew(self) -> None:
        """Load the files again if they have changed.

        If they cannot be used, this is logged and the previous certificate stays.
        """
        try:
            found = self._read()
            if found == self._loaded:
                return
            self.context = self._context()
        except SettingInvalid as error:
            _logger.error("certificate-not-renewed", error=str(error))  # noqa: TRY400 - no mistake of ours
        else:
            self._loaded = found
            _logger.info("certificate-renewed", file=self._settings.gateway_tls)

    def _read(self) -> tuple[bytes, ...]:
        """The content of the files; empty if there are none."""
        if not self.renewable:
            return ()
        try:
            return tuple(Path(name).read_bytes() for name in (self._certificate, self._key) if name)
        except OSError as error:
            raise self._unusable(error) from error

    def _context(self) -> ssl.SSLContext | None:
        if self._settings.gateway_tls == "off":
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if self.renewable:
            self._load_given(context)
        else:
            _load_self_made(context, self._settings.gateway_listen.rpartition(":")[0])
        return context

    def _load_given(self, context: ssl.SSLContext) -> None:
        try:
            # Without a password the standard library would ask for one on the terminal.
            context.load_cert_chain(self._certificate, self._key, password=_refuse_to_ask)
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> SettingInvalid:
        return SettingInvalid(
            variable("gateway_tls"),
            self._settings.gateway_tls,
            f"be `auto`, `off`, or a certificate file whose key GATECAST_GATEWAY_TLS_KEY names ({error})",
        )


def _load_self_made(context: ssl.SSLContext, host: str) -> None:
    """The standard library loads certificates from files only, so the key touches the disk for a moment."""
    certificate, key = make_certificate(host)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.pem"
        path.touch(mode=0o600)
        path.write_bytes(key + certificate)
        context.load_cert_chain(path)


def _refuse_to_ask() -> bytes:
    raise OSError("the key is encrypted; decrypt it, or give it in another file")


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
