"""Loads folders named on standard input, each in a fork, by MNN alone or through our check; says how each ended.

A line ``native PATH`` or ``checked PATH`` is answered ``works``, ``refused TEXT``, ``failed TEXT`` or ``died SIGNAL``.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from pathlib import Path

from enginebay.data import LoadRequest
from enginebay.errors import ModelLoadError
from enginebay_mnn.native import library


def native(path: Path) -> str:
    model = library().create(str(path / "config.json"))
    return "works" if model._c_obj.load() else "refused by MNN"


def checked(path: Path) -> str:
    from enginebay_mnn.steps import open_steps

    try:
        model = open_steps(LoadRequest(path, "mnn"))
    except ModelLoadError as error:
        return "refused " + error.message
    model.close()
    return "works"


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    library()
    for name in ("numpy", "tokenizers", "enginebay_mnn.steps"):
        importlib.import_module(name)

    for line in sys.stdin:
        how, _, path = line.rstrip("\n").partition(" ")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            try:
                answer = (native if how == "native" else checked)(Path(path))
            except BaseException as error:
                answer = f"failed {type(error).__name__}: {error}"
            os.write(writer, answer.encode()[:2000])
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            answer = pipe.read().decode()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            answer = f"died {signal.Signals(os.WTERMSIG(status)).name} {answer}"
        print(answer.replace("\n", " ") or "died silently", file=out, flush=True)


if __name__ == "__main__":
    main()
