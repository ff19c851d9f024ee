"""The conformance kit, on the demo model: with a cache for each sequence, and with one for all."""

from typing import Any, ClassVar

from enginebay.testing import EngineConformance


class TestLlamacpp(EngineConformance):
    engine = "llamacpp"
    model = "demo"


class TestSharedCache(EngineConformance):
    engine = "llamacpp"
    model = "demo"
    options: ClassVar[dict[str, Any]] = {"shared_cache": True}
