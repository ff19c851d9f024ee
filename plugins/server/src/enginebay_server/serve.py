"""``enginebay serve``: opens the first model, binds the address, and serves until it is told to end. It knows no engine."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from enginebay.cli.output import Output, waiting
from enginebay.errors import ConfigError
from enginebay_server import logs
from enginebay_server.settings import LOOPBACK, Settings

if TYPE_CHECKING:
    from enginebay.bay import Bay

SHUTDOWN_SECONDS = 10
CLOSING_SECONDS = 2
"""How long after a slow reader's request its connection goes as well."""


@click.command("serve")
@click.option("-e", "--engine", help="The engine to use.")
@click.option("-m", "--model", help="The model to begin with: a name or a path.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--api-key-file", type=click.Path(dir_okay=False, path_type=Path), help="A file with a key on each line.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A name that clients may use for this server.")
@click.option("--allow-origin", multiple=True, metavar="ORIGIN", help="A web origin that may call from a browser.")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="A configuration file.")
def command(  # noqa: PLR0917 - click calls it with keywords
    engine: str | None,
    model: str | None,
    host: str,
    port: int,
    api_key_file: Path | None,
    allow_host: tuple[str, ...],
    allow_origin: tuple[str, ...],
    config: Path | None,
) -> None:
    """Serve the models that are installed, in OpenAI's form, over HTTP."""
    from enginebay.bay import Bay
    from enginebay.config import VARIABLES, load_config
    from enginebay_server.offer import effective

    keys = _keys(api_key_file) if api_key_file else ()
    if host not in LOOPBACK and not keys:
        raise ConfigError(
            f"{host} can be reached from other machines, and there is no key.",
            hint="enginebay serve --api-key-file FILE, with a key of 16 characters or more on a line",
        )
    settings = Settings(keys=keys, hosts=allow_host, origins=allow_origin)
    logs.to_stderr()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # after uvicorn's own handling: workers are ended in order
    said = os.environ.pop(
        VARIABLES["engine"], None
    )  # an argument speaks louder, and models may have engines of their own
    configured, first = effective(load_config(config), engine or said, model)
    out = Output()
    listening = bind(host, port)
    with Bay(configured) as bay:
        with waiting(f"Loading {first} …"):
            bay.load(first)
        out.write(_greeting(listening, host, bay.status().model or first, keyed=bool(keys)))
        asyncio.run(serve(bay, settings, listening))


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; connections wait in line until they are served.

    :raises ConfigError: the address cannot be used
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"{host}:{port} cannot be used: {error.strerror}.", hint="enginebay serve --port 0 takes a free one."
        ) from error
    listening.listen(2048)
    return listening


def _keys(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    keys = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not keys or any(len(key) < 16 or not key.isascii() or not key.isprintable() for key in keys):
        raise ConfigError(
            f"{path}: expected keys of 16 characters or more, one on a line.", hint=f"openssl rand -hex 24 > {path}"
        )
    return keys


def _greeting(listening: socket.socket, host: str, model: str, *, keyed: bool) -> str:
    port = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    shown = "localhost" if host in ("0.0.0.0", "::") else shown  # noqa: S104 - only compared
    key = " -H 'Authorization: Bearer KEY'" if keyed else ""
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    return (
        f"http://{shown}:{port} serves {model}. Try: "
        f"curl http://{shown}:{port}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'\n"
    )


async def serve(bay: Bay, settings: Settings, listening: socket.socket) -> None:
    """Serve the application over a bay on a socket, until a signal says to end."""
    import uvicorn

    from enginebay_server.application import app
    from enginebay_server.guard import HEADER_BYTES
    from enginebay_server.http1 import LimitedProtocol

    config = uvicorn.Config(
        app(bay, settings),
        http=LimitedProtocol.with_patience(settings.slow_reader_seconds + CLOSING_SECONDS),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    await uvicorn.Server(config).serve(sockets=[listening])
