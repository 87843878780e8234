"""Fetches the console's third-party files from npm, and notes where each came from.

Run it after changing a version below; a test compares the files with the notes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent

#: What the console serves, and what only the tests of it use.
SERVED = ROOT / "src/gatecast/server/console/static/vendor"
TESTING = ROOT / "tests/browser/vendor"

#: Package, version, license, and which of its files the console serves under which name.
PACKAGES = {
    SERVED: (
        ("htmx.org", "2.0.11", "0BSD", {"dist/htmx.min.js": "htmx.js"}),
        ("uplot", "1.6.32", "MIT", {"dist/uPlot.iife.min.js": "uplot.js", "dist/uPlot.min.css": "uplot.css"}),
        (
            "swagger-ui-dist",
            "5.35.0",
            "Apache-2.0",
            {"swagger-ui-bundle.js": "swagger-ui.js", "swagger-ui.css": "swagger-ui.css"},
        ),
    ),
    TESTING: (("axe-core", "4.14.1", "MPL-2.0", {"axe.min.js": "axe.js"}),),
}


def main() -> None:
    """Fetch every package and rewrite the notes."""
    for folder, packages in PACKAGES.items():
        notes = {}
        for package, version, license_name, files in packages:
            for name, content in _fetch(package, version, files).items():
                (folder / name).write_bytes(content)
                notes[name] = {
                    "package": package,
                    "version": version,
                    "license": license_name,
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
        (folder / "vendor.json").write_text(json.dumps(notes, indent=2) + "\n")


def _fetch(package: str, version: str, files: dict[str, str]) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", f"{package}@{version}"], cwd=folder, check=True)  # noqa: S603, S607 - npm, with constants
        [archive] = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as packed:
            return {name: _read(packed, f"package/{path}") for path, name in files.items()}


def _read(packed: tarfile.TarFile, path: str) -> bytes:
    file = packed.extractfile(path)
    if file is None:
        raise FileNotFoundError(path)
    return file.read()


if __name__ == "__main__":
    main()
