"""Echo, but for a greeting when the plugin module is read."""

from attrs import evolve

from enginebay_echo.plugin import *  # noqa: F403
from enginebay_echo.plugin import engine as _engine

engine = evolve(_engine, name="e02")
print("hello")
