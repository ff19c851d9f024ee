"""``enginebay tokenize``: the token ids of a text. It knows no engine."""

from __future__ import annotations

from typing import Any

import click

from enginebay.cli.options import model_options, open_model
from enginebay.cli.output import Output
from enginebay.cli.run import read_text


@click.command("tokenize")
@click.argument("model")
@click.argument("text")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with tokens and pieces.")
@model_options
def command(model: str, text: str, as_json: bool, options: tuple[str, ...], **settings: Any) -> None:
    """Show the tokens of a text.

    TEXT is tokenized as it is, the text of special tokens included; - reads it from stdin.
    """
    text = read_text(text, "")
    out = Output()
    with open_model(model, options, **settings) as opened:
        tokens = opened.tokenize(text)
        if as_json:
            can = "detokenize" in opened.info.capabilities
            pieces = [opened.detokenize([token]).decode("utf-8", "replace") for token in tokens] if can else None
            out.json({"tokens": tokens, "pieces": pieces, "engine": opened.info.engine})
        else:
            out.write(" ".join(map(str, tokens)) + "\n")
