from __future__ import annotations

import pytest
from pydantic import ValidationError

from gatecast.controlplane.documents import BUILT_IN_TEMPLATES, MODELS, Kind, LlmProvider, LlmProviderTemplate
from gatecast.testing.unmodified_gateway import artifact_kinds as families


def test_the_built_in_templates_are_those_of_gateways() -> None:
    assert {template.handle for template in BUILT_IN_TEMPLATES} == set(families.BUILT_IN_TEMPLATES)


@pytest.mark.parametrize("template", BUILT_IN_TEMPLATES, ids=lambda template: template.handle)
def test_a_provider_can_be_made_of_every_built_in_template(template: LlmProviderTemplate) -> None:
    assert template.auth is not None
    header, prefix = template.auth.header, template.auth.value_prefix
    provider = LlmProvider.model_validate(
        {
            "name": template.name,
            "template": template.handle,
            "upstream": {
                "url": template.endpoint_url or "https://own.example.test",
                "auth": {"type": template.auth.type, "header": header, "value": f"{prefix}key"},
            },
        }
    )
    assert provider.template == template.handle


@pytest.mark.parametrize("template", BUILT_IN_TEMPLATES, ids=lambda template: template.handle)
def test_every_built_in_template_says_where_tokens_are_counted(template: LlmProviderTemplate) -> None:
    assert template.extractors.prompt_tokens is not None
    assert template.extractors.completion_tokens is not None
    assert template.extractors.request_model is not None


def test_a_template_is_not_downloaded() -> None:
    assert set(MODELS) == set(Kind) - {Kind.LLM_PROVIDER_TEMPLATE}


def test_an_own_template_is_accepted() -> None:
    template = LlmProviderTemplate.model_validate(
        {
            "handle": "demo-template",
            "name": "Demo Template",
            "description": "x",
            "endpointUrl": "https://llm.example.test",
            "auth": {"type": "api-key", "header": "Authorization", "valuePrefix": "Bearer "},
            "logo": "https://logo.example.test/a.png",
            "extractors": {"promptTokens": {"location": "payload", "identifier": "$.usage.prompt_tokens"}},
        }
    )
    assert LlmProviderTemplate.model_validate_json(template.model_dump_json(by_alias=True)) == template


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"handle": "Demo"}, ("handle",)),
        ({"handle": ""}, ("handle",)),
        ({"name": ""}, ("name",)),
        ({"endpointUrl": "llm"}, ("endpointUrl",)),
        ({"auth": {"type": "basic"}}, ("auth", "type")),
        ({"extractors": {"promptTokens": {"location": "body", "identifier": "x"}}},
         ("extractors", "promptTokens", "location")),
        ({"extractors": {"totalTokens": {"location": "header", "identifier": ""}}},
         ("extractors", "totalTokens", "identifier")),
        ({"description": "{{"}, ("description",)),
    ],
)  # fmt: skip
def test_an_own_template_is_refused(changes: dict[str, object], place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        LlmProviderTemplate.model_validate({"handle": "demo", "name": "Demo", **changes})
    assert caught.value.errors()[0]["loc"] == place
