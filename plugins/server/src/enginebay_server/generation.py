"""From a form to requests for engines, the same for every endpoint that generates. It knows no form of answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from enginebay.data import Choice, Constraint, Gbnf, GenerateRequest, JsonObject, JsonSchema, Lark, Regex
from enginebay.model import Model, build_request
from enginebay.tools import mark_tokens, tool_constraint
from enginebay_server.forms.base import Sampled
from enginebay_server.forms.chat import ResponseFormat, SchemaFormat
from enginebay_server.running import Build

Prompt: TypeAlias = Callable[[Model], Sequence[int]]
Constrain: TypeAlias = Callable[[Model], Constraint | None]

_SAME = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "cache_prompt",
    "stop",
)


def options(form: Sampled, *, max_tokens: int | None, logprobs: int | None, timeout_seconds: float) -> dict[str, Any]:
    """Keywords for ``build_request`` from what all forms share. What was not given is left to the engine's defaults."""
    given = {name: value for name in _SAME if (value := getattr(form, name)) is not None}
    if form.seed is not None:
        given["seed"] = form.seed % 2**64
    return {**given, "max_tokens": max_tokens, "logprobs": logprobs, "timeout_seconds": timeout_seconds}


def builds(prompts: Sequence[Prompt], n: int, constrain: Constrain, given: Mapping[str, Any]) -> tuple[Build, ...]:
    """How to build each choice: ``n`` for every prompt, with seeds that follow each other."""
    return tuple(_build(prompt, i, constrain, given) for prompt in prompts for i in range(n))


def _build(prompt: Prompt, i: int, constrain: Constrain, given: Mapping[str, Any]) -> Build:
    def build(model: Model) -> GenerateRequest:
        own = dict(given)
        if "seed" in own:
            own["seed"] = (own["seed"] + i) % 2**64
        return build_request(prompt(model), {**own, "constraint": constrain(model)})

    return build


def constraint(form: Sampled, response_format: ResponseFormat | None = None) -> Constrain:
    """What the output must match, apart from tools. Its size and depth are checked before an engine sees it."""
    asked: Constraint | None = None
    if form.grammar is not None:
        asked = Gbnf(form.grammar)
    elif form.regex is not None:
        asked = Regex(form.regex)
    elif form.choice is not None:
        asked = Choice(tuple(form.choice))
    elif isinstance(response_format, SchemaFormat):
        schema = response_format.json_schema
        asked = JsonSchema(schema.schema_, strict=schema.strict is not False)
    elif response_format is not None and response_format.type == "json_object":
        asked = JsonObject()

    def constrain(_model: Model) -> Constraint | None:
        if asked is not None:
            check(asked)
        return asked

    return constrain


def tools_constraint(tools: Sequence[Mapping[str, Any]], choice: str, *, parallel: bool) -> Constrain:
    """What the output must match so that calls are calls of these tools, with arguments that their schemas accept."""

    def constrain(model: Model) -> Lark:
        for tool in tools:
            parameters = tool["function"].get("parameters")
            if parameters:
                check(JsonSchema(parameters))
        return tool_constraint(tools, choice, parallel=parallel, marks=mark_tokens(model.tokenize))

    return constrain


def check(asked: Constraint) -> None:
    """Refuse what is over the limits for requests, or malformed, before it goes to an engine's process.

    :raises GrammarError: naming the limit or the place
    """
    from enginebay.decode.constraints.choice import choice_grammar
    from enginebay.decode.constraints.limits import REQUEST_LIMITS
    from enginebay.decode.constraints.regex import regex_grammar
    from enginebay.decode.constraints.schema import schema_grammar

    match asked:
        case JsonSchema(schema, strict):
            schema_grammar(schema, strict, REQUEST_LIMITS)
        case Regex(pattern):
            regex_grammar(pattern, REQUEST_LIMITS)
        case Choice(listed):
            choice_grammar(listed, REQUEST_LIMITS)
        case Gbnf(source):
            REQUEST_LIMITS.check_source(source)
