"""ZIP and tar.gz, as the gateway packs and unpacks them (gateway-protocol.md 3.3, 3.4, 3.7)."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from gatecast.testing.unmodified_gateway.document_rules import SECRET_REFERENCE
from gatecast.testing.unmodified_gateway.yaml_values import Rejected

#: Digits of the longest integer that the gateway decodes (section 6).
_LONGEST_INTEGER = 308

_YAML_SUFFIXES = (".yaml", ".yml")


def first_document(package: bytes) -> str:
    """Text of the first YAML entry, in archive order, of a ZIP.

    Raises:
        Rejected: there is none.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            name = next(name for name in archive.namelist() if name.endswith(_YAML_SUFFIXES))
            return archive.read(name).decode()
    except (zipfile.BadZipFile, StopIteration, UnicodeDecodeError) as problem:
        raise Rejected(f"not a ZIP with YAML in it: {problem!r}") from problem


def documents_by_deployment(package: bytes) -> dict[str, str]:
    """Texts of a tar.gz, by the name of each file's directory, which is the deployment's id.

    Raises:
        Rejected: it is not a tar.gz.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
            return {
                PurePosixPath(member.name).parent.name: _text(archive, member)
                for member in archive
                if _is_document(member)
            }
    except (tarfile.TarError, OSError, EOFError, zlib.error, UnicodeDecodeError) as problem:
        raise Rejected(f"not a tar.gz: {problem!r}") from problem


def parse_document(text: str) -> Mapping[str, Any]:
    """The first YAML document of a text.

    Raises:
        Rejected: it is not YAML, not a mapping, or has a key twice.
    """
    try:
        document = next(yaml.load_all(text, _StrictLoader), None)
    except yaml.YAMLError as problem:
        raise Rejected(f"not YAML: {problem!r}") from problem
    if not isinstance(document, dict):
        raise Rejected("not a mapping")
    return document


#: Written in C where there is one: it takes a tenth of the time.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_Loader):  # type: ignore[misc, valid-type]
    """Refuses what the gateway's parser refuses and PyYAML does not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """A mapping whose keys are all different."""
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) < len(keys):
            raise yaml.constructor.ConstructorError(None, None, "a key comes twice", node.start_mark)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


def _construct_integer(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    if len(node.value) > _LONGEST_INTEGER:
        raise yaml.constructor.ConstructorError(None, None, "an integer is too long", node.start_mark)
    value: int = loader.construct_yaml_int(node)
    return value


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_integer)


def referenced_secrets(text: str) -> list[str]:
    """Handles of the secrets that a document asks for."""
    return SECRET_REFERENCE.findall(text)


def import_package(configurations: Iterable[Mapping[str, Any]]) -> bytes:
    """The ZIP that announces what was created on the gateway itself."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("artifacts.json", json.dumps(list(configurations)))
    return package.getvalue()


def _is_document(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    return member.isfile() and path.suffix in _YAML_SUFFIXES and ".." not in path.parts and bool(path.parent.name)


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = archive.extractfile(member)
    return file.read().decode() if file else ""
