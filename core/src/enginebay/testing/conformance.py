"""The kit's one class: all clauses together, and the check of what a subclass overrides. It knows no single clause."""

from __future__ import annotations

from enginebay.testing.suite.closing import ClosingClauses
from enginebay.testing.suite.concurrency import ConcurrencyClauses
from enginebay.testing.suite.constraints import ConstraintClauses
from enginebay.testing.suite.generation import GenerationClauses
from enginebay.testing.suite.limits import LimitClauses
from enginebay.testing.suite.plugin import PluginClauses
from enginebay.testing.suite.resuming import ResumeClauses
from enginebay.testing.suite.reuse import ReuseClauses
from enginebay.testing.suite.sampling import SamplingClauses
from enginebay.testing.suite.stopping import StopClauses
from enginebay.testing.suite.tokens import TokenClauses


class EngineConformance(  # pytest runs what the last base has first
    ReuseClauses,
    ConstraintClauses,
    ResumeClauses,
    ClosingClauses,
    LimitClauses,
    ConcurrencyClauses,
    StopClauses,
    SamplingClauses,
    GenerationClauses,
    TokenClauses,
    PluginClauses,
):
    """Subclass it in a test module, and name an engine and a model reference that it reads."""

    def test_e00_overrides(self) -> None:
        """E00 A clause is overridden only with ``@pytest.mark.xfail(reason=...)``.

        Look at the test class: what an engine cannot do is undeclared, or said in the reason.
        """
        for name in (name for name in dir(EngineConformance) if name.startswith("test_e")):
            own = getattr(type(self), name)
            if own is getattr(EngineConformance, name):
                continue
            marks = [mark for mark in getattr(own, "pytestmark", []) if mark.name == "xfail"]
            assert callable(own), f"{name} was taken out"
            assert marks, f"{name} is overridden without an xfail mark"
            assert str(marks[0].kwargs.get("reason", "")).strip(), f"{name} is overridden without a reason"
