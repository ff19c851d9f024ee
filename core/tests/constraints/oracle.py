"""Asks llama.cpp's grammar code in a process of its own, and starts another when it dies."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
DEMO = HERE.parents[2] / "plugins/demo/src/enginebay_demo/models/gguf/demo.gguf"


class Oracle:
    """``follow`` gives what may follow each text, None where the grammar is refused, ``died`` where llama.cpp did not survive."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def follow(self, grammar: str, alphabet: str, length: int) -> dict[str, str] | str | None:
        process = self._process or self._start()
        request = json.dumps({"grammar": grammar, "alphabet": alphabet, "length": length})
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())
        except (ValueError, OSError):
            self.close()
            return "died"

    def _start(self) -> "subprocess.Popen[str]":
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "llama_grammar_oracle.py"), str(DEMO)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout.readline() == "ready\n"
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
