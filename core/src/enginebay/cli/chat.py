"""``enginebay chat``: a conversation, a line at a time. It knows no engine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from enginebay.cli.options import model_options, open_model, request_options, sampling_options
from enginebay.cli.output import Output, note
from enginebay.cli.run import summary

if TYPE_CHECKING:
    from enginebay.model import Model


@click.command("chat")
@click.argument("model")
@click.option("--system", help="What the model is told before all else.")
@sampling_options
@model_options
def command(  # noqa: PLR0917 - click calls it with keywords
    model: str,
    system: str | None,
    engine: str | None,
    config: Any,
    isolation: Any,
    context_tokens: int | None,
    options: tuple[str, ...],
    **sampling: Any,
) -> None:
    """Talk with a model, a line at a time.

    Ctrl-C ends an answer; Ctrl-D, or Ctrl-C at the prompt, ends the conversation.
    """
    asked = request_options(**sampling)
    out = Output()
    with open_model(
        model, options, engine=engine, config=config, isolation=isolation, context_tokens=context_tokens
    ) as opened:
        if opened.info.chat_template is None:
            from enginebay.errors import Unsupported

            raise Unsupported(
                f"{model} has no chat template, so it cannot hold a conversation.",
                hint=f"enginebay run {model} --raw --prompt 'Once upon a time'",
            )
        _converse(opened, [{"role": "system", "content": system}] if system else [], asked, out)


def _converse(model: Model, messages: list[dict[str, Any]], asked: dict[str, Any], out: Output) -> None:
    person = sys.stdin.isatty()
    if person:
        import readline  # noqa: F401 - gives input() editing and history
    while True:
        try:
            said = input("> " if person else "")
        except EOFError:
            return
        if not said.strip():
            continue
        messages.append({"role": "user", "content": said})
        answer = _answer(model, messages, asked, out, person)
        messages.append({"role": "assistant", "content": answer})


def _answer(model: Model, messages: list[dict[str, Any]], asked: dict[str, Any], out: Output, person: bool) -> str:
    text = ""
    with model.chat_stream(messages, **asked) as stream:
        try:
            for chunk in stream:
                text += chunk.text
                out.write(chunk.text)
                if chunk.finish:
                    out.write("\n")
                    note(summary(chunk.finish, model.info.engine))
        except KeyboardInterrupt:
            if not person:
                raise
            out.write("\n")
    return text
