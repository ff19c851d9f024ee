"""Models of one process share a thread: two teams of OpenMP threads on the same processors slow each other down."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import enginebay


def test_models_of_a_process_share_one_thread_and_change_no_token() -> None:
    options = {"max_tokens": 40, "temperature": 0.8, "seed": 5}
    with enginebay.open("demo", engine="llamacpp", isolation="inline") as alone:
        expected = alone.generate("Once upon a time", **options).tokens  # type: ignore[arg-type]
    models = [enginebay.open("demo", engine="llamacpp", isolation="inline") for _ in range(3)]
    try:
        with ThreadPoolExecutor(3) as pool:
            results = list(pool.map(lambda model: model.generate("Once upon a time", **options).tokens, models))
        assert results == [expected] * 3
        owners = [thread.name for thread in threading.enumerate() if thread.name.startswith("enginebay-llamacpp")]
        assert owners == ["enginebay-llamacpp"]
        models[0].close()
        assert models[1].generate("Once upon a time", **options).tokens == expected  # type: ignore[arg-type]
    finally:
        for model in models:
            model.close()
