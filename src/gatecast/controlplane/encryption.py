"""Encryption of stored data that must stay secret in a copy of the database."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes, token_hex

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gatecast.errors import SecretKeyMissing, SettingInvalid
from gatecast.settings import variable
from gatecast.storage.database_url import parse

_KEY_BYTES = 32
_NONCE_BYTES = 12
_KEY_ID_BYTES = 4

_RULE = (
    "be 32 bytes in base64, like the output of `openssl rand -base64 32`; several, newest first, with commas between"
)


class Encryption:
    """Encrypts and decrypts texts with AES-256-GCM.

    The first key encrypts; every key decrypts. To replace a key, put the new one before the old one. A text is bound to
    its place: moved to another row it cannot be decrypted.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {sha256(key).digest()[:_KEY_ID_BYTES]: AESGCM(key) for key in keys}
        self._newest = next(iter(self._keys), None)

    @property
    def has_key(self) -> bool:
        """False: nothing can be encrypted."""
        return self._newest is not None

    @property
    def newest_key_id(self) -> bytes:
        """The prefix of every text that the first key encrypted.

        Raises:
            SecretKeyMissing: there is no key.
        """
        if self._newest is None:
            raise SecretKeyMissing
        return self._newest

    def encrypt(self, text: str, *, place: str) -> bytes:
        """The text as it may be stored.

        Raises:
            SecretKeyMissing: there is no key.
        """
        key_id, nonce = self.newest_key_id, token_bytes(_NONCE_BYTES)
        return key_id + nonce + self._keys[key_id].encrypt(nonce, text.encode(), place.encode())

    def open(self, sealed: bytes, *, place: str) -> str:
        """The text that was encrypted for this place.

        Raises:
            SecretKeyMissing: it was encrypted with a key that is not here.
        """
        key_id, rest = sealed[:_KEY_ID_BYTES], sealed[_KEY_ID_BYTES:]
        if key_id not in self._keys:
            raise SecretKeyMissing
        try:
            return self._keys[key_id].decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], place.encode()).decode()
        except (InvalidTag, ValueError):
            # A nonce that was cut short is a ValueError.
            raise SecretKeyMissing from None


def local_key_file(database: str) -> Path | None:
    """Where a pod keeps its encryption key: next to a database on this machine, otherwise nowhere."""
    path = parse(database).path
    return None if path is None else Path(f"{path}.key")


def encryption_for(setting: str, key_file: Path | None) -> Encryption:
    """The sealer of this installation: with the keys of the setting, else with the one beside a local database.

    `key_file` is None where the database is on another machine; then there is no key unless one is set.

    Raises:
        SettingInvalid: the setting holds no keys.
    """
    if setting:
        return Encryption([_key(part) for part in setting.split(",")])
    return Encryption([] if key_file is None else [_own_key(key_file)])


def _key(text: str) -> bytes:
    with suppress(binascii.Error, ValueError):
        key = base64.b64decode(text.strip(), altchars=b"-_" if {"-", "_"} & set(text) else None, validate=True)
        if len(key) == _KEY_BYTES:
            return key
    raise SettingInvalid(variable("secret_key"), "(hidden)", _RULE)


def _own_key(path: Path) -> bytes:
    """The key in this file, which is made when it is missing; of two pods that start at once, one makes it."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(base64.b64encode(token_bytes(_KEY_BYTES)) + b"\n")
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return _key(path.read_text("ascii"))
