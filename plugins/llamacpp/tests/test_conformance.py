"""The conformance kit, on the demo model."""

from enginebay.testing import EngineConformance


class TestLlamacpp(EngineConformance):
    engine = "llamacpp"
    model = "demo"
