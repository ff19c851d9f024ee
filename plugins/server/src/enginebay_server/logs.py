"""One line an event, on stderr: time, event and fields as JSON. Control characters are escaped, prompts and keys never enter."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

EVENTS = logging.getLogger("enginebay_server")


def event(name: str, **fields: Any) -> None:
    """Log an event with its fields."""
    EVENTS.info(name, extra={"enginebay": fields})


class Lines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage()[:4096],
            **getattr(record, "enginebay", {}),
        }
        if record.name != EVENTS.name:
            line["logger"] = record.name
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def to_stderr(level: int = logging.INFO) -> None:
    """Send what this process logs to stderr in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    EVENTS.setLevel(level)
