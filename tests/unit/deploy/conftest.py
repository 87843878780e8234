"""The chart as Helm renders it: Helm's own code, as a library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

CHART = Path(__file__).parents[3] / "deploy/helm/gatecast"


@pytest.fixture(scope="session")
def chart() -> Iterator[helm_python.Chart]:
    """The chart, loaded."""
    with helm_python.Chart.load(CHART) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def render(chart: helm_python.Chart) -> Callable[..., list[dict[str, Any]]]:
    """Renders the chart with the values of these assignments, like `replicas=3`."""

    def rendered(*values: str) -> list[dict[str, Any]]:
        given = helm_python.parse_set_string(",".join(values)) if values else {}
        files = chart.render(given, name="release", namespace="gateways")
        manifests = [text for path, text in files.items() if not path.endswith("NOTES.txt")]
        return [each for text in manifests for each in yaml.safe_load_all(text) if each]

    return rendered
