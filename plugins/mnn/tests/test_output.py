"""Nothing that MNN prints reaches standard output, and what others print meanwhile does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EMBEDDER = Path(__file__).parent / "data" / "embedder"
SCRIPT = """
import ctypes, logging, sys, threading
from pathlib import Path
from enginebay.data import GenerateRequest, LoadRequest, Sampling
from enginebay_mnn.options import Options
from enginebay_mnn.plugin import health, load

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
over = threading.Event()
count = 0
def talk():
    global count
    while not over.is_set():
        count += 1
        print("line", count, flush=True)
talker = threading.Thread(target=talk)
talker.start()
model = load(LoadRequest(Path(sys.argv[1]), "mnn", Options(), sequences=2))
tokens = tuple(model.tokenize("Once upon a time", False))
for _ in model.generate(GenerateRequest(tokens, max_tokens=20, sampling=Sampling(temperature=0))):
    pass
assert health(model).healthy
model.close()
over.set()  # descriptor 1 itself moves while an embedding model loads, because MNN prints with C++ then
talker.join()
load(LoadRequest(Path(sys.argv[3]), "mnn", Options())).close()
try:
    (Path(sys.argv[2]) / "config.json").write_text("{}")
    load(LoadRequest(Path(sys.argv[2]), "mnn", Options()))
except Exception as error:
    print(type(error).__name__, file=sys.stderr)
ctypes.CDLL(None).puts(b"a library that prints")
print("last", count)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the script calls C's puts as it is found on POSIX")
def test_standard_output_is_clean(models: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(models / "mnn"), str(tmp_path), str(EMBEDDER)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    spoken = [line for line in lines if line.startswith("line ")]
    others = [line for line in lines if not line.startswith("line ")]
    assert spoken == [f"line {number}" for number in range(1, len(spoken) + 1)]
    assert sorted(others) == ["a library that prints", f"last {len(spoken)}"]
    assert "enginebay.mnn:The device supports" in ran.stderr, "MNN printed nothing; this test proves nothing"
    assert "tokenizer.mtok" in ran.stderr, "MNN's C++ stream printed nothing"
    assert "ModelLoadError" in ran.stderr
