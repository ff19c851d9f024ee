"""``enginebay run``: one prompt in, text or one JSON object out. It knows no engine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from enginebay.cli.options import model_options, open_model, request_options, sampling_options
from enginebay.cli.output import Output, note

if TYPE_CHECKING:
    from enginebay.data import Finish
    from enginebay.model import Model


@click.command("run")
@click.argument("model")
@click.option("-p", "--prompt", help="The prompt; - reads it from stdin, as does leaving it out in a pipe.")
@click.option("--raw", is_flag=True, help="Give the prompt as it is, without the model's chat template.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@sampling_options
@model_options
def command(  # noqa: PLR0917 - click calls it with keywords
    model: str,
    prompt: str | None,
    raw: bool,
    as_json: bool,
    engine: str | None,
    config: Any,
    isolation: Any,
    context_tokens: int | None,
    options: tuple[str, ...],
    **sampling: Any,
) -> None:
    """Generate text from a prompt.

    MODEL is a catalogue name such as demo, or the path of a model file or folder.
    """
    asked = request_options(**sampling)
    text = read_text(prompt, "Give a prompt with --prompt TEXT, or on stdin.")
    out = Output()
    with open_model(
        model, options, engine=engine, config=config, isolation=isolation, context_tokens=context_tokens
    ) as opened:
        tokens = _tokens(opened, text, raw)
        if as_json:
            from enginebay.structure import unstructure

            out.json(unstructure(opened.generate(tokens, **asked)))
        else:
            _stream(opened, tokens, asked, out)


def read_text(given: str | None, otherwise: str) -> str:
    """An option's text; that of stdin for ``-``, or for nothing in a pipe."""
    if given is not None and given != "-":
        return given
    if given is None and sys.stdin.isatty():
        raise click.UsageError(otherwise)
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _tokens(model: Model, text: str, raw: bool) -> list[int] | tuple[int, ...]:
    if raw or model.info.chat_template is None:
        return model.prompt_tokens(text)
    return model.chat_tokens([{"role": "user", "content": text}])


def _stream(model: Model, tokens: Any, asked: dict[str, Any], out: Output) -> None:
    with model.stream(tokens, **asked) as stream:
        for chunk in stream:
            out.write(chunk.text)
            if chunk.finish:
                out.write("\n")
                note(summary(chunk.finish, model.info.engine))


def summary(finish: Finish, engine: str) -> str:
    """How a generation went, in a line."""
    times = finish.timings
    return (
        f"{engine} · {finish.reason} · {finish.usage.completion_tokens} tokens"
        f" · {times.generated_tokens_per_second:,.0f} tokens/s · first after {times.first_token_seconds:.2f} s"
    )
