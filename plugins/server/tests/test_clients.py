"""The clients that people use, unchanged, against the server: what each has a method for works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
ASK: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as one:
        yield one


def test_chat_and_its_stream_say_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="demo", messages=HELLO, temperature=0, logprobs=True, top_logprobs=2)
    stream = client.chat.completions.create(
        model="demo",
        messages=HELLO,
        temperature=0,
        logprobs=True,
        top_logprobs=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert choices[0].delta.role == "assistant"
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert choices[-1].finish_reason == "stop"
    assert "".join(choice.delta.content or "" for choice in choices) == whole.choices[0].message.content
    logprobs = [one for choice in choices for one in (choice.logprobs.content or [] if choice.logprobs else [])]
    assert whole.choices[0].logprobs
    assert [one.token for one in logprobs] == [one.token for one in whole.choices[0].logprobs.content or []]
    text = b"".join(bytes(one.bytes or ()) for one in logprobs).decode()
    assert text.startswith(whole.choices[0].message.content or "?")
    assert all(len(one.top_logprobs) == 2 for one in logprobs)
    assert chunks[-1].usage
    assert whole.usage
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == len(logprobs)


def test_seeds_and_choices(client: openai.OpenAI) -> None:
    def ask(**more: Any) -> list[str | None]:
        answer = client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Tell me a story about a fox."}], max_tokens=24, **more
        )
        return [choice.message.content for choice in answer.choices]

    first = ask(seed=7, n=3, temperature=1.2)
    assert first == ask(seed=7, n=3, temperature=1.2)
    assert len(set(first)) > 1
    assert ask(seed=8, temperature=1.2) == [first[1]]
    assert "r" in "".join(text or "" for text in first)
    assert all("r" not in (text or "") for text in ask(seed=7, stop=["r"]))


@pytest.mark.parametrize("stream", [False, True])
def test_tools(client: openai.OpenAI, stream: bool) -> None:
    def call(**more: Any) -> tuple[str | None, str, str | None]:
        asked: dict[str, Any] = {"model": "demo", "messages": ASK, "tools": [WEATHER], "temperature": 0, **more}
        if stream:
            with client.chat.completions.stream(**asked) as events:
                choice: Any = events.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(**asked).choices[0]
        if not choice.message.tool_calls:
            return None, "", choice.finish_reason
        function = choice.message.tool_calls[0].function
        return function.name, function.arguments, choice.finish_reason

    expected = ("get_weather", '{"city": "Oslo"}', "tool_calls")
    assert call() == expected
    assert call(tool_choice="required", parallel_tool_calls=False) == expected
    assert call(tool_choice={"type": "function", "function": {"name": "get_weather"}}) == expected
    assert call(tool_choice="none")[0] is None
    name, arguments, _ = call(messages=HELLO, tool_choice="required")
    assert name == "get_weather"
    assert list(json.loads(arguments)) == ["city"]
    assert call(messages=HELLO)[0] is None


def test_what_a_tool_returned_is_used(client: openai.OpenAI) -> None:
    called = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    answer = client.chat.completions.create(model="demo", messages=messages, tools=[WEATHER], temperature=0)
    assert "Oslo" in (answer.choices[0].message.content or "")


class Person(BaseModel):
    name: str
    age: int


def test_structured_output(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Fill this JSON: {name, age} from: Maria is 34."}]
    parsed = client.chat.completions.parse(model="demo", messages=messages, response_format=Person, temperature=0)
    assert parsed.choices[0].message.parsed == Person(name="Maria", age=34)
    free = client.chat.completions.create(
        model="demo", messages=messages, response_format={"type": "json_object"}, temperature=0, max_tokens=200
    )
    assert isinstance(json.loads(free.choices[0].message.content or ""), dict)


@pytest.mark.parametrize(
    ("extension", "answers"),
    [({"choice": ["yes", "no"]}, {"yes", "no"}), ({"regex": "[0-9]{3}"}, None), ({"grammar": 'root ::= "ok"'}, {"ok"})],
)
def test_extensions(client: openai.OpenAI, extension: dict[str, Any], answers: set[str] | None) -> None:
    extra = {**extension, "top_k": 5, "min_p": 0.01, "repeat_penalty": 1.1, "cache_prompt": False}
    answer = client.chat.completions.create(model="demo", messages=HELLO, extra_body=extra)
    text = answer.choices[0].message.content or ""
    assert text in answers if answers else text.isdigit()


def test_completions(client: openai.OpenAI) -> None:
    ask: Any = {"model": "demo", "prompt": ["Once upon a time", "The old turtle"], "temperature": 0, "max_tokens": 12}
    whole = client.completions.create(**ask, logprobs=1)
    parts: dict[int, str] = {0: "", 1: ""}
    for chunk in client.completions.create(**ask, stream=True):
        parts[chunk.choices[0].index] += chunk.choices[0].text
    assert [choice.text for choice in whole.choices] == [parts[0], parts[1]]
    assert whole.choices[0].logprobs
    assert "".join(whole.choices[0].logprobs.tokens or ()) == whole.choices[0].text
    assert whole.usage
    counts = [len(choice.logprobs.tokens or ()) if choice.logprobs else 0 for choice in whole.choices]
    assert whole.usage.completion_tokens == sum(counts)


def test_embeddings(client: openai.OpenAI) -> None:
    texts = ["one", "two"]
    floats = client.embeddings.create(model="echo", input=texts, encoding_format="float")
    as_base64 = client.embeddings.create(model="echo", input=texts)  # the client asks for base64 by itself
    assert len(floats.data) == 2
    assert floats.data[1].embedding == pytest.approx(as_base64.data[1].embedding)
    assert floats.usage.prompt_tokens > 0
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="demo", input="one")
    assert caught.value.code == "unsupported"


def test_models(client: openai.OpenAI) -> None:
    assert "demo" in [model.id for model in client.models.list()]
    assert client.models.retrieve("demo").id == "demo"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="/etc/passwd", messages=HELLO)


def test_refusals_name_the_field(client: openai.OpenAI) -> None:
    for field, value in {"store": True, "audio": {}, "functions": [], "unknown_field": 1}.items():
        with pytest.raises(openai.BadRequestError, match=field):
            client.chat.completions.create(model="demo", messages=HELLO, extra_body={field: value})
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="demo", messages=HELLO, max_tokens=100_000)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="vocabulary"):
        client.chat.completions.create(model="demo", messages=HELLO, logit_bias={"999999": 1})


@pytest.mark.parametrize("stream", [False, True])
def test_responses(client: openai.OpenAI, stream: bool) -> None:
    def ask(**asked: Any) -> Any:
        if not stream:
            return client.responses.create(model="demo", temperature=0, **asked)
        with client.responses.stream(model="demo", temperature=0, **asked) as events:
            return events.get_final_response()

    said = client.chat.completions.create(model="demo", messages=HELLO, temperature=0).choices[0].message.content
    assert ask(input="Hello").output_text == said
    tool: Any = {"type": "function", "strict": True, **WEATHER["function"]}
    call = ask(input=ASK, tools=[tool]).output[0]
    assert (call.type, call.name, call.arguments) == ("function_call", "get_weather", '{"city": "Oslo"}')
    if not stream:  # the client's stream knows completed responses only
        assert ask(input="Tell me a story about a fox.", max_output_tokens=5).status == "incomplete"
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        client.responses.create(model="demo", input="Hello", previous_response_id="resp-1")


def test_messages(server: Any) -> None:
    ask = {"model": "demo", "max_tokens": 60, "messages": HELLO}
    answer = server.http.post("/v1/messages", json=ask).json()
    count = server.http.post("/v1/messages/count_tokens", json={"model": "demo", "messages": HELLO}).json()
    assert answer["content"][0]["text"]
    assert answer["stop_reason"] == "end_turn"
    usage = answer["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == count["input_tokens"]
    tool = {"name": "get_weather", "input_schema": WEATHER["function"]["parameters"]}
    called = server.http.post("/v1/messages", json={**ask, "messages": ASK, "tools": [tool], "temperature": 0}).json()
    assert called["stop_reason"] == "tool_use"
    assert called["content"][0]["input"] == {"city": "Oslo"}
    streamed = server.http.post("/v1/messages", json={**ask, "stream": True}).text
    assert [line[7:] for line in streamed.splitlines() if line.startswith("event: ")][-1] == "message_stop"


async def _async_client(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        whole = await client.chat.completions.create(model="demo", messages=HELLO, temperature=0)
        stream = await client.chat.completions.create(model="demo", messages=HELLO, temperature=0, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == whole.choices[0].message.content
        assert [model.id async for model in client.models.list()]
        assert (await client.embeddings.create(model="echo", input="one")).data


def test_async_client(server: Any) -> None:
    import asyncio

    asyncio.run(_async_client(server.url))


def test_langchain(server: Any) -> None:
    from langchain_openai import ChatOpenAI

    model: Any = ChatOpenAI(model="demo", base_url=f"{server.url}/v1", api_key="none", temperature=0)  # type: ignore[arg-type]
    whole = model.invoke("Hello")
    assert "".join(chunk.content for chunk in model.stream("Hello")) == whole.content
    assert whole.usage_metadata["output_tokens"] > 0
    called = model.bind_tools([WEATHER]).invoke("What is the weather in Oslo?")
    assert called.tool_calls[0]["args"] == {"city": "Oslo"}
    person = model.with_structured_output(Person).invoke("Fill this JSON: {name, age} from: Maria is 34.")
    assert person == Person(name="Maria", age=34)


def test_litellm(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise its import asks the network
    import litellm

    ask: Any = {"model": "openai/demo", "api_base": f"{server.url}/v1", "api_key": "none", "messages": HELLO}
    whole: Any = litellm.completion(**ask, temperature=0)
    stream: Any = litellm.completion(**ask, temperature=0, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole.choices[0].message.content
    called: Any = litellm.completion(**{**ask, "messages": ASK}, tools=[WEATHER], temperature=0)
    assert called.choices[0].message.tool_calls[0].function.name == "get_weather"
