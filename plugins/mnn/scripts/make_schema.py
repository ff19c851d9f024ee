"""Write ``mnn_schema.json`` from MNN's FlatBuffers schema (Apache-2.0). It knows the part of the language used there.

python make_schema.py PATH/TO/MNN/schema/default ../src/enginebay_mnn/mnn_schema.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

SCALARS = {
    "bool": 1, "byte": 1, "ubyte": 1, "int8": 1, "uint8": 1, "short": 2, "ushort": 2, "int": 4, "int32": 4, "uint": 4,
    "uint32": 4, "float": 4, "long": 8, "int64": 8, "ulong": 8, "double": 8,
}  # fmt: skip


def main(folder: Path, target: Path) -> None:
    text = "\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.fbs")))
    text = re.sub(r"//[^\n]*", "", text)
    enums: dict[str, dict[str, int]] = {}
    sizes = dict(SCALARS)
    for name, base, body in re.findall(r"enum\s+(\w+)\s*:\s*(\w+)\s*\{(.*?)\}", text, re.S):
        sizes[name] = SCALARS[base]
        value, members = -1, {}
        for item in filter(None, (part.strip() for part in body.split(","))):
            label, _, number = (part.strip() for part in item.partition("="))
            value = int(number) if number else value + 1
            members[label] = value
        enums[name] = members
    unions = {
        name: [part.strip() for part in body.split(",") if part.strip()]
        for name, body in re.findall(r"union\s+(\w+)\s*\{(.*?)\}", text, re.S)
    }
    tables: dict[str, list[list[object]]] = {}
    for name, body in re.findall(r"table\s+(\w+)\s*\{(.*?)\}", text, re.S):
        fields: list[list[object]] = []
        for label, kind in re.findall(r"(\w+)\s*:\s*(\[?\w+\]?)", body):
            if kind in unions:
                fields.append([label + "_type", 1])
                fields.append([label, "union:" + kind])
            elif kind.startswith("["):
                inner = kind[1:-1]
                fields.append([label, f"[{sizes.get(inner, inner)}]"])
            else:
                fields.append([label, sizes.get(kind, kind)])
        tables[name] = fields
    reachable, todo = {"Net"}, ["Net"]
    while todo:
        for _, kind in tables[todo.pop()]:
            names = unions[kind[6:]] if str(kind).startswith("union:") else [str(kind).strip("[]")]
            fresh = [n for n in names if n in tables and n not in reachable]
            reachable.update(fresh)
            todo.extend(fresh)
    document = {
        "source": "https://github.com/alibaba/MNN, schema/default, release 3.6.1, Apache-2.0",
        "operations": {str(number): label for label, number in enums["OpType"].items()},
        "parameters": ["NONE", *unions["OpParameter"]],
        "tables": {name: tables[name] for name in sorted(reachable)},
    }
    target.write_text(json.dumps(document, separators=(",", ":")) + "\n", "utf-8")


main(Path(sys.argv[1]), Path(sys.argv[2]))
