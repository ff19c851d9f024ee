"""Builds llama.cpp's own programs from the source inside the installed llama-cpp-python's sdist: what benchmarks compare with.

    python build_llama_tools.py FOLDER

Leaves ``llama-server``, ``llama-bench`` and ``llama-batched-bench`` in ``FOLDER/bin``, from the very version of llama.cpp
that the plugin runs. Needs pip, cmake and a C++ compiler, and some minutes. ``CMAKE_ARGS`` counts here as it does when
llama-cpp-python is installed, so that both sides can be compiled alike.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

TOOLS = ("llama-server", "llama-bench", "llama-batched-bench")
SETTINGS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_CURL": "OFF",
}


def source(folder: Path) -> Path:
    """Download and unpack the sdist; returns llama.cpp's folder in it."""
    package = f"llama-cpp-python=={version('llama-cpp-python')}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python"]
    subprocess.run([*pip, "--dest", str(folder), package], check=True)
    with tarfile.open(next(folder.glob("llama_cpp_python-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"))


def build(target: Path) -> list[Path]:
    """The programs, built if they are not there."""
    programs = [target / "bin" / tool for tool in TOOLS]
    if all(program.exists() for program in programs):
        return programs
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as name:
        workers = ("--parallel", str(os.cpu_count() or 1))
        settings = [f"-D{key}={value}" for key, value in SETTINGS.items()] + shlex.split(
            os.environ.get("CMAKE_ARGS", "")
        )
        subprocess.run(["cmake", "-S", str(source(Path(name))), "-B", str(target), *settings], check=True)
        subprocess.run(["cmake", "--build", str(target), *workers, "--target", *TOOLS], check=True)
    return programs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for built in build(parser.parse_args().folder.resolve()):
        print(built)
