"""Templates of LLM providers: a provider's address, how it takes its key, and where it reports tokens.

Templates cannot be sent to gateways; these are the ones that gateways bring along, and those that operators install
there themselves (gateway-protocol.md 4.7).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, StringConstraints, WithJsonSchema

from gatecast.controlplane.documents.document import Document, Part
from gatecast.controlplane.documents.handles import HANDLE_PATTERN, MAX_HANDLE_LENGTH, check_handle
from gatecast.controlplane.documents.kinds import Kind
from gatecast.controlplane.documents.refusals import InvalidDocument, refused
from gatecast.controlplane.documents.texts import Description, HeaderName, LlmName, Text, Url


def _handle(handle: str) -> str:
    try:
        check_handle(handle)
    except InvalidDocument as error:
        raise refused(error.rule) from None
    return handle


TemplateHandle = Annotated[
    str,
    AfterValidator(_handle),
    WithJsonSchema({"type": "string", "maxLength": MAX_HANDLE_LENGTH, "pattern": HANDLE_PATTERN}),
]


class Extractor(Part):
    """The place of a value in a request or an answer."""

    location: Literal["payload", "header", "queryParam", "pathParam"]
    #: A JSON path, the name of a header or parameter, or a regular expression over the path.
    identifier: Text


class Extractors(Part):
    """Where a provider says what a call cost, and for which model."""

    prompt_tokens: Extractor | None = None
    completion_tokens: Extractor | None = None
    total_tokens: Extractor | None = None
    remaining_tokens: Extractor | None = None
    request_model: Extractor | None = None
    response_model: Extractor | None = None


class TemplateAuth(Part):
    """How a provider wants its key."""

    type: Literal["api-key", "other", "none"] = "api-key"
    header: HeaderName | None = None
    #: Stands before the key, with its blank: `Bearer `.
    value_prefix: Annotated[str, StringConstraints(max_length=64, pattern=r"^[\x20-\x7e]*$")] = ""


class LlmProviderTemplate(Document):
    """The common part of providers of one kind."""

    kind: ClassVar[Kind] = Kind.LLM_PROVIDER_TEMPLATE

    #: Its name on gateways.
    handle: TemplateHandle
    name: LlmName
    description: Description = ""
    #: None: every customer has another address.
    endpoint_url: Url | None = None
    auth: TemplateAuth | None = None
    #: Address of a picture.
    logo: Url | None = None
    extractors: Extractors = Extractors()


_OPENAI_USAGE = Extractors(
    prompt_tokens=Extractor(location="payload", identifier="$.usage.prompt_tokens"),
    completion_tokens=Extractor(location="payload", identifier="$.usage.completion_tokens"),
    total_tokens=Extractor(location="payload", identifier="$.usage.total_tokens"),
    remaining_tokens=Extractor(location="header", identifier="x-ratelimit-remaining-tokens"),
    request_model=Extractor(location="payload", identifier="$.model"),
    response_model=Extractor(location="payload", identifier="$.model"),
)
_BEDROCK_MODEL = Extractor(location="pathParam", identifier="(?<=model/)[a-zA-Z0-9.:-]+(?=/)")
_BEARER = TemplateAuth(header="Authorization", value_prefix="Bearer ")
_AZURE = TemplateAuth(header="api-key")

#: The templates that every gateway has; read-only.
BUILT_IN_TEMPLATES = (
    LlmProviderTemplate(
        handle="openai",
        name="OpenAI",
        endpoint_url="https://api.openai.com/v1",
        auth=_BEARER,
        extractors=_OPENAI_USAGE,
    ),
    LlmProviderTemplate(
        handle="anthropic",
        name="Anthropic",
        endpoint_url="https://api.anthropic.com",
        auth=TemplateAuth(header="x-api-key"),
        extractors=Extractors(
            prompt_tokens=Extractor(location="payload", identifier="$.usage.input_tokens"),
            completion_tokens=Extractor(location="payload", identifier="$.usage.output_tokens"),
            remaining_tokens=Extractor(location="header", identifier="anthropic-ratelimit-tokens-remaining"),
            request_model=Extractor(location="payload", identifier="$.model"),
            response_model=Extractor(location="payload", identifier="$.model"),
        ),
    ),
    LlmProviderTemplate(
        handle="awsbedrock",
        name="AWS Bedrock",
        endpoint_url="https://bedrock-runtime.us-east-1.amazonaws.com",
        auth=_BEARER,
        extractors=Extractors(
            prompt_tokens=Extractor(location="payload", identifier="$.usage.inputTokens"),
            completion_tokens=Extractor(location="payload", identifier="$.usage.outputTokens"),
            total_tokens=Extractor(location="payload", identifier="$.usage.totalTokens"),
            request_model=_BEDROCK_MODEL,
            response_model=_BEDROCK_MODEL,
        ),
    ),
    LlmProviderTemplate(handle="azure-openai", name="Azure OpenAI", auth=_AZURE, extractors=_OPENAI_USAGE),
    LlmProviderTemplate(handle="azureai-foundry", name="Azure AI Foundry", auth=_AZURE, extractors=_OPENAI_USAGE),
    LlmProviderTemplate(
        handle="gemini",
        name="Gemini",
        endpoint_url="https://generativelanguage.googleapis.com",
        auth=TemplateAuth(header="x-goog-api-key"),
        extractors=Extractors(
            prompt_tokens=Extractor(location="payload", identifier="$.usageMetadata.promptTokenCount"),
            completion_tokens=Extractor(location="payload", identifier="$.usageMetadata.candidatesTokenCount"),
            total_tokens=Extractor(location="payload", identifier="$.usageMetadata.totalTokenCount"),
            remaining_tokens=Extractor(location="header", identifier="x-ratelimit-remaining-tokens"),
            request_model=Extractor(location="pathParam", identifier=r"(?<=models/)[a-zA-Z0-9.\-]+"),
            response_model=Extractor(location="payload", identifier="$.modelVersion"),
        ),
    ),
    LlmProviderTemplate(
        handle="mistralai",
        name="MistralAI",
        endpoint_url="https://api.mistral.ai",
        auth=_BEARER,
        extractors=_OPENAI_USAGE,
    ),
)
