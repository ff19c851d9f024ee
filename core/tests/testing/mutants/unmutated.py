"""Echo under another name: what all mutants are but for their fault."""

from attrs import evolve

from enginebay.data import LoadRequest
from enginebay.hookspecs import LoadedModel, hookimpl
from enginebay_echo.plugin import detokenize, embed, generate, grammar, health, load_session, save_session, tokenize
from enginebay_echo.plugin import engine as _engine

__all__ = ["detokenize", "embed", "generate", "grammar", "health", "load_session", "save_session", "tokenize"]

engine = evolve(_engine, name="unmutated")


@hookimpl
def load(request: LoadRequest) -> LoadedModel:
    from enginebay.decode.handle import DecodeModel
    from enginebay_echo.steps import EchoModel

    return DecodeModel.open(request, engine, lambda: EchoModel(request))
