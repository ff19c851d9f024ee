"""The engine ``echo`` keeps the contract, in this process and in a worker of its own."""

from enginebay.testing import EngineConformance


class TestEcho(EngineConformance):
    engine = "echo"
    model = "echo"


class TestEchoInAWorker(EngineConformance):
    engine = "echo"
    model = "echo"
    isolation = "process"
