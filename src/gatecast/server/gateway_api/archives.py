"""ZIP and tar.gz as gateways expect them (gateway-protocol.md 3.3, 3.4, 3.7)."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from lzma import LZMAError
from typing import Any

from gatecast.controlplane.catalog.artifact_kinds import ArtifactKind
from gatecast.controlplane.gateway_sync.downloads import Content
from gatecast.errors import InvalidValue
from gatecast.events.json_values import TooDeep
from gatecast.server.gateway_api.json_arrays import elements
from gatecast.server.gateway_api.request_bodies import decode

#: Largest import after it is unpacked, in bytes.
MAX_IMPORT_BYTES = 32 * 1024 * 1024

_IMPORT_ENTRY = "artifacts.json"

#: The file name prefix of each kind.
_PREFIXES = {"apis": "api", "llm-providers": "llm-provider", "llm-proxies": "llm-proxy", "mcp-proxies": "mcp-proxy"}


def file_name(artifact_kind: ArtifactKind, artifact_id: str) -> str:
    """The file name of an artifact's document."""
    return f"{_PREFIXES[artifact_kind.download]}-{artifact_id}.yaml"


def zip_of(content: Content) -> bytes:
    """A ZIP with one document; the same bytes for the same document."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(file_name(content.artifact_kind, content.artifact_id))
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, content.text)
    return package.getvalue()


def tar_of(contents: Mapping[str, Content]) -> bytes:
    """A tar.gz in which each document lies in a folder with the name of its deployment."""
    package = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=package, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        for deployment_id, content in contents.items():
            data = content.text.encode()
            member = tarfile.TarInfo(f"{deployment_id}/{file_name(content.artifact_kind, content.artifact_id)}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return package.getvalue()


def imported(package: bytes) -> list[dict[str, Any]]:
    """The gateway-owned artifacts that a gateway announces.

    Raises:
        InvalidValue: it is not a ZIP with a JSON array of objects, or too large. An object in it that is nested too
            deep to be read has that error as its `configuration`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive, archive.open(_IMPORT_ENTRY) as entry:
            # Read up to the limit, whatever size the archive names: it may say anything.
            text = entry.read(MAX_IMPORT_BYTES + 1)
        if len(text) > MAX_IMPORT_BYTES:
            raise InvalidValue("artifacts", len(text), f"be at most {MAX_IMPORT_BYTES:,} bytes unpacked")
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
        LZMAError,
    ) as problem:
        raise InvalidValue("artifacts", type(problem).__name__, f"be a ZIP that holds {_IMPORT_ENTRY}") from problem
    try:
        found = decode(_IMPORT_ENTRY, text)
    except TooDeep:
        found = elements(_IMPORT_ENTRY, text.decode())
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InvalidValue(_IMPORT_ENTRY, type(found).__name__, "be an array of objects")
    return found
