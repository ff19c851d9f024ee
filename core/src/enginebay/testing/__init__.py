"""The conformance kit: what every engine must do, as tests that an engine's author runs. It knows no engine by name.

Three lines of test prove an engine::

    from enginebay.testing import EngineConformance

    class TestToy(EngineConformance):
        engine = "toy"
        model = "toy"

Needs the extra ``enginebay[testing]``.
"""

import pytest

pytest.register_assert_rewrite("enginebay.testing.base", "enginebay.testing.oracle", "enginebay.testing.suite")

from enginebay.testing.conformance import EngineConformance  # noqa: E402 - after the rewriting of asserts is asked for
from enginebay.testing.template import write_template  # noqa: E402

__all__ = ["EngineConformance", "write_template"]
