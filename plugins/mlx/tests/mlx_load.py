"""Loads each folder named on standard input in a process of its own with limits; prints how that ended, a line each.

``ok``, ``refused`` (a Python exception, or an error of the tree with ``--checked``) or ``killed``: by a signal, by the
clock, or by running out of gigabytes for a model of five megabytes.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

MEMORY_BYTES = 4 << 30
SECONDS = 5


def load_natively(folder: Path) -> None:
    """What mlx-lm does without any check of ours."""
    import mlx.core as mx
    from mlx_lm.utils import load_model
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    [tokenizer.id_to_token(token) for token in range(max(tokenizer.get_vocab().values()) + 1)]
    model, _ = load_model(folder)
    mx.eval(model(mx.array([[1, 2, 3]])))


def load_checked(folder: Path) -> None:
    """The engine's way."""
    from enginebay.data import LoadRequest
    from enginebay.decode.protocol import Feed
    from enginebay_mlx.steps import open_steps

    open_steps(LoadRequest(folder, "mlx")).step([Feed(0, [1, 2, 3])])


def main() -> None:
    import mlx_lm.utils

    import enginebay_mlx.steps
    from enginebay.errors import EnginebayError

    assert enginebay_mlx.steps
    assert mlx_lm.utils
    checked = "--checked" in sys.argv
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(SECONDS)
            try:
                (load_checked if checked else load_natively)(Path(line.strip()))
            except EnginebayError:
                os._exit(1)
            except Exception as error:
                no_memory = isinstance(error, MemoryError) or "alloc" in str(error)
                os._exit(3 if no_memory else 2 if checked else 1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        code = os.waitstatus_to_exitcode(status)
        sys.stdout.write({0: "ok", 1: "refused"}.get(code, f"killed {code}") + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
