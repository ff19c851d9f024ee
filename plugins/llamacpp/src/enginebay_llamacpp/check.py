"""Checks that a GGUF file's numbers fit each other, so that native code meets no surprise. It knows no native library."""
from pathlib import Path
from enginebay_llamacpp.gguf import GgufFile, read
def check_model(path: Path) -> GgufFile:
    return read(path)
def check_adapter(path: Path) -> GgufFile:
    return read(path)
