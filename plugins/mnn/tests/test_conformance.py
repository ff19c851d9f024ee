"""The engine ``mnn`` keeps the contract."""

from enginebay.testing import EngineConformance


class TestMnn(EngineConformance):
    engine = "mnn"
    model = "demo"
