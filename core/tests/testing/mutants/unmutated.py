"""Echo under another name: what all mutants are but for their fault."""

from attrs import evolve

from enginebay_echo.plugin import *  # noqa: F403
from enginebay_echo.plugin import EchoOptions, hookimpl  # noqa: F401
from enginebay_echo.plugin import engine as _engine

engine = evolve(_engine, name="unmutated")


@hookimpl
def load(request):
    from enginebay.decode.handle import DecodeModel
    from enginebay_echo.steps import EchoModel

    return DecodeModel.open(request, engine, lambda: EchoModel(request))
