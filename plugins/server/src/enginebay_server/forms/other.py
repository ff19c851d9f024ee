"""Embeddings, reranking, models, engines and tokens, as clients send and get them. It knows no engine."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from enginebay_server.forms.base import Answer, Form, Name, Text, TokenIds

Texts = Annotated[list[Text], Field(min_length=1, max_length=2048)]


class EmbeddingRequest(Form):
    """Texts or token ids to be embedded."""

    REFUSED: ClassVar[dict[str, str]] = {"dimensions": "vectors have the model's own length."}

    model: Name | None = None
    input: Text | Texts | TokenIds | Annotated[list[TokenIds], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = Field(None, description="base64: little-endian float32.")
    user: Annotated[str, Field(max_length=1024)] | None = None


class Embedding(Answer):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class PromptUsage(Answer):
    prompt_tokens: int
    total_tokens: int


class EmbeddingAnswer(Answer):
    """A vector for each input, in order."""

    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: PromptUsage


class RerankRequest(Form):
    """Documents to be put in the order in which they answer the query."""

    model: Name | None = None
    query: Text
    documents: Texts
    top_n: Annotated[int, Field(ge=1, le=2048)] | None = None
    return_documents: bool | None = None


class RerankDocument(Answer):
    text: str


class RerankResult(Answer):
    index: int
    relevance_score: float
    document: RerankDocument | None = None


class RerankAnswer(Answer):
    """The best document first."""

    id: str
    model: str
    results: list[RerankResult]


class ModelCard(Answer):
    """A model that can be asked for. ``state`` is ``stopped`` until somebody does; ``error`` is why it cannot be loaded."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["enginebay"] = "enginebay"
    engine: str | None = None
    format: str | None = None
    state: str
    current: bool
    context_length: int | None = None
    error: str | None = None


class ModelList(Answer):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class EngineModel(Answer):
    """A model of the bay, and the process that it runs in."""

    model: str
    engine: str
    format: str
    state: str
    current: bool
    pinned: bool
    context_length: int | None
    requests: int
    pid: int | None
    memory_bytes: int | None
    restarts: int
    error: str | None


class InstalledEngine(Answer):
    """An engine that is installed, and whether it runs here."""

    name: str
    version: str
    healthy: bool
    reason: str | None
    formats: list[str]


class EngineStatus(Answer):
    """What is served now, what is being loaded, and what could be."""

    engine: str | None
    model: str | None
    loading: str | None
    requests: int
    models: list[EngineModel]
    engines: list[InstalledEngine]


class SwitchRequest(Form):
    """The engine, the model, or both, that shall be the current one. ``migrate``: running requests go along."""

    engine: Name | None = None
    model: Name | None = None
    migrate: bool = False


class SwitchAnswer(Answer):
    status: Literal["switched"] = "switched"
    from_: str | None = Field(alias="from")
    to: str
    loaded_model: str


class LoadRequest(Form):
    """A model to be loaded, on an engine if one is named. ``pinned``: it is never unloaded for another."""

    model: Name
    engine: Name | None = None
    pinned: bool = False


class UnloadRequest(Form):
    model: Name
    engine: Name | None = None


class LoadAnswer(Answer):
    status: Literal["loaded", "unloaded"]
    model: str
    engine: str | None = None


class CancelAnswer(Answer):
    status: Literal["cancelled"] = "cancelled"
    id: str


class TokenizeRequest(Form):
    """``add_special``: with what the model wants in front. ``parse_special``: names of special tokens become these."""

    model: Name | None = None
    content: Text
    add_special: bool = False
    parse_special: bool = True


class TokenizeAnswer(Answer):
    model: str
    tokens: list[int]


class DetokenizeRequest(Form):
    model: Name | None = None
    tokens: TokenIds


class DetokenizeAnswer(Answer):
    """``bytes`` are exact; in ``content`` what is no UTF-8 is replaced."""

    model: str
    content: str
    bytes: list[int]


class Alive(Answer):
    status: Literal["ok"] = "ok"


class Ready(Answer):
    status: Literal["ready"] = "ready"
    model: str
