"""The engine ``toy`` keeps the contract."""

from enginebay.testing import EngineConformance


class TestToy(EngineConformance):
    engine = "toy"
    model = "toy"
