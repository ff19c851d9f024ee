"""The conformance kit, on the demo model."""

from enginebay.testing import EngineConformance


class TestMlx(EngineConformance):
    engine = "mlx"
    model = "demo"
