"""Tells whether the library's code for AMX was compiled wrongly. It knows no model.

Some versions of GCC take the tile configuration to be eight bytes long and drop the rest (GCC PR 114098). A llama.cpp that they
compiled ends the process at the first prompt for quantized weights, on every processor with AMX.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from types import ModuleType

_MENDED = {11: 5, 12: 4, 13: 3}
"""The minor version of each GCC since which it is right; 14 and later always were."""


def compiled_wrongly(native: ModuleType) -> str | None:
    """The compiler that did it; None if AMX is not used, or was compiled well."""
    if b"AMX_INT8 = 1" not in native.llama_print_system_info():
        return None
    folder = Path(native.__file__ or "").parent / "lib"
    return next((found for library in sorted(folder.glob("libggml-cpu*.so")) if (found := faulty_gcc(library))), None)


@cache
def faulty_gcc(library: Path) -> str | None:
    """The version of GCC that a shared library says it was compiled by, if it is one of the faulty ones."""
    for found in re.finditer(rb"GCC: \([^)\0]{0,100}\) (\d+)\.(\d+)", library.read_bytes()):
        major, minor = int(found[1]), int(found[2])
        if major < min(_MENDED) or minor < _MENDED.get(major, 0):
            return f"GCC {major}.{minor}"
    return None
