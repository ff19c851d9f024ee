"""Holds every engine's module against the hooks: mypy reads this, nothing runs it."""

from enginebay.decode.handle import DecodeModel
from enginebay.hookspecs import EngineHooks
from enginebay_echo import plugin as echo
from enginebay_llamacpp import plugin as llamacpp
from enginebay_mlx import plugin as mlx
from enginebay_mnn import plugin as mnn

ENGINES: list[EngineHooks[DecodeModel]] = [echo, llamacpp, mlx, mnn]
