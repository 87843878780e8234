"""The chart: rendered by Helm, and checked against the schemas of Kubernetes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

pytestmark = pytest.mark.slow

_CHART = Path(__file__).parents[3] / "deploy/helm/gatecast"
_KUBERNETES = "1.33"

Render = Callable[..., list[dict[str, Any]]]

_EVERYTHING = (
    "autoscaling.enabled=true",
    "api.ingress.enabled=true",
    "api.ingress.host=gatecast.example.com",
    "api.ingress.tlsSecretName=gatecast-api",
    "serviceMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "dashboards.enabled=true",
    "secret.metricsTokenKey=metrics-token",
    "secret.outboxKey=outbox",
    "gatewayTls.mode=secret",
    "gatewayTls.secretName=gateway-tls",
    "gateways.service.type=LoadBalancer",
    "gateways.service.externalTrafficPolicy=Local",
    "networkPolicy.gatewaysFrom[0].ipBlock.cidr=10.0.0.0/8",
    "networkPolicy.apiFrom[0].namespaceSelector.matchLabels.name=monitoring",
    "settings.GATECAST_RETENTION=14d",
    "settings.GATECAST_POOLER=on",
    "podLabels.team=gateways",
    "podAnnotations.note=x",
    "priorityClassName=high",
    "nodeSelector.disk=ssd",
    "tolerations[0].operator=Exists",
    "image.pullSecrets[0].name=registry",
    "migrate.secretName=gatecast-owner",
)

#: Kinds of the Prometheus operator, which the schemas of Kubernetes lack.
_OF_THE_OPERATOR = {"ServiceMonitor", "PrometheusRule"}


def _of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in documents if each["kind"] == kind]


def _container(document: dict[str, Any]) -> dict[str, Any]:
    (container,) = document["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


@pytest.mark.parametrize("values", [(), ("migrate.enabled=false", "gatewayTls.mode=off"), _EVERYTHING])
def test_everything_that_is_rendered_fits_the_schemas_of_kubernetes(render: Render, values: tuple[str, ...]) -> None:
    documents = render(*values)
    for document in documents:
        if document["kind"] not in _OF_THE_OPERATOR:
            kubernetes_validate.validate(document, _KUBERNETES, strict=True)
    assert len({(each["kind"], each["metadata"]["name"]) for each in documents}) == len(documents)


def test_nothing_optional_is_made_unless_it_is_asked_for(render: Render) -> None:
    assert {each["kind"] for each in render()} == {
        "Deployment",
        "Job",
        "Service",
        "PodDisruptionBudget",
        "NetworkPolicy",
    }
    kinds = {each["kind"] for each in render(*_EVERYTHING)}
    assert {"HorizontalPodAutoscaler", "Ingress", "ConfigMap"} | _OF_THE_OPERATOR <= kinds


@pytest.mark.parametrize("seconds", [1, 20, 300])
def test_kubernetes_waits_longer_than_a_pod_drains(render: Render, seconds: int) -> None:
    (deployment,) = _of_kind(render(f"drainSeconds={seconds}"), "Deployment")
    told = {each["name"]: each.get("value") for each in _container(deployment)["env"]}
    assert told["GATECAST_DRAIN_TIME"] == f"{seconds}s"
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > seconds + 2


@pytest.mark.parametrize("values", [(), _EVERYTHING])
def test_every_container_may_do_nothing_but_compute_and_speak(render: Render, values: tuple[str, ...]) -> None:
    documents = render(*values)
    for document in _of_kind(documents, "Deployment") + _of_kind(documents, "Job"):
        pod = document["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        security = _container(document)["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert {each["mountPath"] for each in _container(document)["volumeMounts"]} >= {"/tmp"}  # noqa: S108 - inside the container


def test_no_variable_is_set_twice(render: Render) -> None:
    for document in _of_kind(render(*_EVERYTHING), "Deployment") + _of_kind(render(*_EVERYTHING), "Job"):
        names = [each["name"] for each in _container(document)["env"]]
        assert len(set(names)) == len(names)


def test_the_schema_is_brought_up_to_date_before_pods_start_that_do_not_do_it_themselves(render: Render) -> None:
    (job,) = _of_kind(render("migrate.secretName=owner"), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    (database,) = (each for each in _container(job)["env"] if each["name"] == "GATECAST_DATABASE")
    assert database["valueFrom"]["secretKeyRef"]["name"] == "owner"
    for values, mode in (((), "never"), (("migrate.enabled=false",), "auto")):
        (deployment,) = _of_kind(render(*values), "Deployment")
        assert {"name": "GATECAST_MIGRATE", "value": mode} in _container(deployment)["env"]


def test_pods_on_jetstream_have_both_urls_and_no_probe(render: Render) -> None:
    """And so has the job that makes their tables and the stream."""
    documents = render("secret.outboxKey=outbox", "migrate.secretName=owner")
    for kind, secret in (("Deployment", "gatecast"), ("Job", "owner")):
        (document,) = _of_kind(documents, kind)
        variables = {each["name"]: each for each in _container(document)["env"]}
        for name, key in (("GATECAST_DATABASE", "database"), ("GATECAST_OUTBOX", "outbox")):
            assert variables[name]["valueFrom"]["secretKeyRef"] == {"name": secret, "key": key}
        assert "GATECAST_PROBE" not in variables


def test_services_budget_and_policy_select_the_pods_and_not_the_job(render: Render) -> None:
    documents = render()
    (deployment,) = _of_kind(documents, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    (job,) = _of_kind(documents, "Job")
    selectors = [each["spec"]["selector"] for each in _of_kind(documents, "Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in _of_kind(documents, "PodDisruptionBudget")]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in _of_kind(documents, "NetworkPolicy")]
    assert len(selectors) == 4
    for selector in selectors:
        assert selector.items() <= labels
        assert not selector.items() <= job["spec"]["template"]["metadata"]["labels"].items()


def test_the_monitor_finds_the_service_of_the_api_alone(render: Render) -> None:
    documents = render(*_EVERYTHING)
    (monitor,) = _of_kind(documents, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [each for each in _of_kind(documents, "Service") if wanted <= each["metadata"]["labels"].items()]
    assert [each["metadata"]["name"] for each in found] == ["release-gatecast-api"]
    assert monitor["spec"]["endpoints"][0]["authorization"]["credentials"]["key"] == "metrics-token"


def test_the_rules_are_those_of_the_file(render: Render) -> None:
    (rule,) = _of_kind(render(*_EVERYTHING), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((_CHART / "files/alerts.yaml").read_text("utf-8"))


@pytest.mark.parametrize(
    "values",
    [
        "replica=3",
        "drainSeconds=0",
        "gatewayTls.mode=maybe",
        "settings.GATECAST_DATABASE=x",
        "settings.GATECAST_OUTBOX=x",
        "settings.retention=1d",
    ],
)
def test_a_value_that_would_do_nothing_or_harm_is_refused(render: Render, values: str) -> None:
    with pytest.raises(helm_python.HelmValuesError):
        render(values)


def test_the_linter_of_helm_finds_nothing() -> None:
    found = helm_python.lint(_CHART, strict=True)
    assert found["errors"] == []


@pytest.mark.parametrize("values", [{}, {"gatewayTls": {"mode": "off"}}])
def test_the_notes_lead_to_the_services(chart: helm_python.Chart, values: dict[str, Any]) -> None:
    notes = chart.render(values, name="release", namespace="gateways")["gatecast/templates/NOTES.txt"]
    assert "http://release-gatecast-api:8080" in notes
    assert ("http" if values else "https") + "://release-gatecast-gateways:9243" in notes


def test_the_schema_describes_every_value() -> None:
    schema = json.loads((_CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((_CHART / "values.yaml").read_text("utf-8"))
    assert set(values) == set(schema["properties"]) - {"global"}
