"""The engine ``echo`` keeps the contract."""

from enginebay.testing import EngineConformance


class TestEcho(EngineConformance):
    engine = "echo"
    model = "echo"
