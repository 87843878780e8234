"""The gateway listener's certificate, and its renewal."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from gatecast.errors import SettingInvalid
from gatecast.server.tls import LOOK_INTERVAL, GatewayTls
from gatecast.settings import Settings
from gatecast.testing.eventually import eventually


class _Files:
    """A certificate's files, which an authority writes and renews."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self.renew("one.example")

    def renew(self, name: str) -> None:
        issued = self.authority.issue_cert("localhost", name)
        self.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())

    @property
    def settings(self) -> Settings:
        return Settings(gateway_tls=str(self.certificate), gateway_tls_key=str(self.key))


@pytest.fixture
def files(tmp_path: Path) -> _Files:
    return _Files(tmp_path)


def _names(tls: GatewayTls, files: _Files) -> set[str]:
    """What a client is shown in a handshake."""
    trust = ssl.create_default_context()
    files.authority.configure_trust(trust)
    shown: Any = _handshake(tls, trust).getpeercert()
    return {name for _, name in shown["subjectAltName"]}


def _handshake(tls: GatewayTls, trust: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLObject:
    """A client that has shaken hands, and has read what the server sends after that."""
    assert tls.context is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    server = tls.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            with _may_want_more():
                side.do_handshake()
    with _may_want_more():
        client.read(1)
    return client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_gateway_that_comes_again_resumes_its_session(files: _Files, version: ssl.TLSVersion) -> None:
    """A resumed handshake has no signature: the dearest part of a connect in a storm."""
    tls, trust = GatewayTls(files.settings), ssl.create_default_context()
    files.authority.configure_trust(trust)
    trust.maximum_version = version
    first = _handshake(tls, trust)
    assert not first.session_reused
    assert _handshake(tls, trust, first.session).session_reused


@contextmanager
def _may_want_more() -> Iterator[None]:
    with suppress(ssl.SSLWantReadError):
        yield


def test_a_renewed_certificate_is_used_in_the_next_handshake(files: _Files) -> None:
    tls = GatewayTls(files.settings)
    assert "one.example" in _names(tls, files)
    files.renew("two.example")
    assert "one.example" in _names(tls, files)
    tls.renew()
    assert "two.example" in _names(tls, files)


def test_files_that_did_not_change_are_not_loaded_again(files: _Files) -> None:
    tls = GatewayTls(files.settings)
    before = tls.context
    tls.renew()
    assert tls.context is before


@pytest.mark.parametrize("broken", [b"", b"no certificate", None])
def test_what_cannot_be_used_leaves_the_old_one_until_it_can(files: _Files, broken: bytes | None) -> None:
    """Also half of a renewal: a key that does not belong to the certificate."""
    tls = GatewayTls(files.settings)
    old_key = files.key.read_bytes()
    files.renew("two.example")
    if broken is None:
        new_key = files.key.read_bytes()
        files.key.write_bytes(old_key)
    else:
        new_certificate = files.certificate.read_bytes()
        files.certificate.write_bytes(broken)
    tls.renew()
    assert "one.example" in _names(tls, files)
    if broken is None:
        files.key.write_bytes(new_key)
    else:
        files.certificate.write_bytes(new_certificate)
    tls.renew()
    assert "two.example" in _names(tls, files)


def test_files_that_are_gone_for_a_moment_change_nothing(files: _Files) -> None:
    tls = GatewayTls(files.settings)
    files.certificate.unlink()
    tls.renew()
    assert "one.example" in _names(tls, files)


def test_an_encrypted_key_is_refused_and_not_asked_for(files: _Files) -> None:
    encrypted = (
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
        "MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBDl8nJ0e7eF8Jc8aS0y\n"
        "-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    files.key.write_text(encrypted)
    with pytest.raises(SettingInvalid, match="GATECAST_GATEWAY_TLS"):
        GatewayTls(files.settings)


async def test_the_files_are_looked_at_again_and_again(files: _Files) -> None:
    tls = GatewayTls(files.settings)
    following = asyncio.create_task(tls.follow(0.001))
    before = tls.context
    files.renew("two.example")

    async def is_renewed() -> bool:
        return tls.context is not before

    await eventually(is_renewed)
    following.cancel()
    await asyncio.wait([following])


def test_they_are_looked_at_within_a_minute() -> None:
    assert LOOK_INTERVAL < 60


@pytest.mark.parametrize(("setting", "renewable"), [("auto", False), ("off", False)])
def test_only_files_are_renewed(setting: str, renewable: bool) -> None:  # noqa: FBT001 - an answer
    tls = GatewayTls(Settings(gateway_tls=setting))
    before = tls.context
    tls.renew()
    assert (tls.context is before, tls.renewable, tls.context is None) == (True, renewable, setting == "off")
