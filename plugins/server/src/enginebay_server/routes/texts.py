"""Embeddings, reranking and tokens: what is asked of a model and is no generation. It knows no engine."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from enginebay.errors import RequestError, Unsupported
from enginebay.model import Model
from enginebay_server.forms.completion import prompts_of
from enginebay_server.forms.other import (
    DetokenizeAnswer,
    DetokenizeRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    RerankAnswer,
    RerankRequest,
    TokenizeAnswer,
    TokenizeRequest,
)
from enginebay_server.service import request_id, service_of

router = APIRouter()


@router.post("/v1/embeddings", response_model=EmbeddingAnswer, tags=["OpenAI"])
async def embeddings(form: EmbeddingRequest, request: Request) -> Response:
    """Vectors of texts."""

    def work(model: Model) -> dict[str, Any]:
        if "embed" not in model.info.capabilities:
            raise Unsupported(f"{model.name} on {model.info.engine} does not embed.", hint="GET /v1/models")
        texts = [_text(model, one) for one in prompts_of(form.input)]
        matrix = model.embed(texts)
        count = sum(len(model.prompt_tokens(text)) for text in texts)
        as_text = form.encoding_format == "base64"
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if as_text else row.tolist(),
            }
            for i, row in enumerate(matrix)
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        return {"object": "list", "model": model.name, "data": data, "usage": usage}

    return JSONResponse(await service_of(request).call(request, form.model, work))


def _text(model: Model, one: str | list[int]) -> str:
    """Token ids as the text that they are: engines embed texts."""
    if isinstance(one, str):
        return one
    try:
        text = model.detokenize(one).decode()
    except UnicodeDecodeError:
        raise RequestError("input: these token ids are not the whole of a text.") from None
    if not text:
        raise RequestError("input: expected at least one token, got none.")
    return text


@router.post("/v1/rerank", response_model=RerankAnswer, tags=["More"])
async def rerank(form: RerankRequest, request: Request) -> Response:
    """Put documents in the order in which they answer a query."""

    def work(model: Model) -> dict[str, Any]:
        scores = model.rerank(form.query, form.documents)
        order = sorted(range(len(scores)), key=lambda i: -scores[i])[: form.top_n or len(scores)]
        results: list[dict[str, Any]] = [{"index": i, "relevance_score": float(scores[i])} for i in order]
        for result in results if form.return_documents else ():
            result["document"] = {"text": form.documents[result["index"]]}
        return {"id": f"rerank-{request_id(request)}", "model": model.name, "results": results}

    return JSONResponse(await service_of(request).call(request, form.model, work))


@router.post("/tokenize", response_model=TokenizeAnswer, tags=["More"])
async def tokenize(form: TokenizeRequest, request: Request) -> Response:
    """The token ids of a text."""

    def work(model: Model) -> dict[str, Any]:
        tokens = model.tokenize(form.content, special=form.parse_special)
        prefix = model.info.prefix_tokens if form.add_special else ()
        return {"model": model.name, "tokens": [*prefix, *tokens]}

    return JSONResponse(await service_of(request).call(request, form.model, work))


@router.post("/detokenize", response_model=DetokenizeAnswer, tags=["More"])
async def detokenize(form: DetokenizeRequest, request: Request) -> Response:
    """The text of token ids."""

    def work(model: Model) -> dict[str, Any]:
        data = model.detokenize(form.tokens)
        return {"model": model.name, "content": data.decode("utf-8", "replace"), "bytes": list(data)}

    return JSONResponse(await service_of(request).call(request, form.model, work))
