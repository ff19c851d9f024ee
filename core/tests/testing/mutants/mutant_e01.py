"""Echo, but for numpy at the top of the plugin module."""

import numpy as np
from attrs import evolve

from enginebay_echo.plugin import *  # noqa: F403
from enginebay_echo.plugin import engine as _engine

engine = evolve(_engine, name="e01", summary=f"needs numpy {np.__version__}")
