"""The container of a saved session: written whole or not at all, and believed only when every byte is. It knows no engine.

    magic ``EBAYSESS`` · version u32 · header length u32 · header JSON · native length u64 · native bytes ·
    HMAC-SHA256 of all before with this user's key · SHA-256 of all before

All numbers are little-endian. The header is portable: token ids, messages, and which model they belong to. The native bytes are
an engine's own state; they are used only if the HMAC proves that this user's own program wrote them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from enginebay.errors import SessionError
from enginebay.structure import structure, unstructure

MAGIC = b"EBAYSESS"
VERSION = 1
PREFIX = struct.Struct("<8sII")
LENGTH = struct.Struct("<Q")
DIGEST_BYTES = 32
MAX_HEADER_BYTES = 64 * 1024 * 1024
MAX_TOKENS = 16 * 1024 * 1024


@frozen
class SessionHeader:
    """What a session is, apart from any engine's state.

    ``reference`` is the model as a person wrote it; ``model_sha256`` is over the model's files; ``tokens`` is the whole
    conversation as the model saw it, and ``messages`` as people did (empty where there was no chat template).
    """

    reference: str
    engine: str
    engine_version: str
    model_sha256: str
    vocabulary_fingerprint: str
    context_tokens: int
    tokens: tuple[int, ...]
    messages: tuple[Mapping[str, Any], ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()


def write(path: Path, header: SessionHeader, native: bytes) -> None:
    """Write a session so that ``path`` holds the old content or the new, whatever happens. Only this user can read it."""
    encoded = json.dumps(unstructure(header), separators=(",", ":")).encode()
    body = PREFIX.pack(MAGIC, VERSION, len(encoded)) + encoded + LENGTH.pack(len(native)) + native
    body += hmac.digest(_key(), body, "sha256")
    body += hashlib.sha256(body).digest()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read(path: Path) -> tuple[SessionHeader, bytes]:
    """The header, and the native bytes if this user's program wrote them (otherwise none).

    :raises SessionError: the file is absent, damaged, too large, or of another version
    """
    try:
        body = path.read_bytes()
    except OSError as error:
        raise SessionError(f"The session {path} cannot be read: {error.strerror}.", hint="Check the path.") from error
    payload, digest = body[:-DIGEST_BYTES], body[-DIGEST_BYTES:]
    if len(body) < PREFIX.size + LENGTH.size + 2 * DIGEST_BYTES or not body.startswith(MAGIC):
        raise SessionError(f"{path} is not a session of Enginebay.", hint="Save one with session.save(path).")
    if not hmac.compare_digest(hashlib.sha256(payload).digest(), digest):
        raise SessionError(f"The session {path} is damaged.", hint="Save it again, or use another copy.")
    _, version, header_bytes = PREFIX.unpack_from(payload)
    if version != VERSION:
        raise SessionError(f"The session {path} has version {version}; this program reads {VERSION}.")
    end = PREFIX.size + header_bytes
    if header_bytes > MAX_HEADER_BYTES or end + LENGTH.size + DIGEST_BYTES > len(payload):
        raise SessionError(f"The session {path} is damaged: its header does not fit.")
    (native_bytes,) = LENGTH.unpack_from(payload, end)
    start = end + LENGTH.size
    if start + native_bytes + DIGEST_BYTES != len(payload):
        raise SessionError(f"The session {path} is damaged: its parts do not fill it.")
    try:
        raw = json.loads(payload[PREFIX.size : end])
    except (ValueError, RecursionError) as error:
        raise SessionError(f"The session {path} is damaged: {error}.") from error
    header = structure(raw, SessionHeader, error=SessionError, where=str(path))
    if len(header.tokens) > MAX_TOKENS:
        raise SessionError(f"The session {path} has {len(header.tokens):,} tokens; at most {MAX_TOKENS:,} are read.")
    own = hmac.compare_digest(hmac.digest(_key(), payload[:-DIGEST_BYTES], "sha256"), payload[-DIGEST_BYTES:])
    return header, payload[start : start + native_bytes] if own else b""


def data_folder() -> Path:
    """Where this user's keys are kept: ``ENGINEBAY_DATA``, ``XDG_DATA_HOME/enginebay`` or ``~/.local/share/enginebay``."""
    named = os.environ.get("ENGINEBAY_DATA")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "enginebay"


def _key() -> bytes:
    """This user's key; made on first use, by exactly one of all processes that want it."""
    path = data_folder() / "session.key"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(2):
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            key = b""
        if len(key) == DIGEST_BYTES:
            return key
        descriptor, temporary = tempfile.mkstemp(prefix=".key.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(DIGEST_BYTES))
        try:
            if key:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)
        except FileExistsError:
            continue
        finally:
            Path(temporary).unlink(missing_ok=True)
    return path.read_bytes()


def files_sha256(path: Path) -> str:
    """Hex SHA-256 over a model's file, or over the names and contents of all files of its folder."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file()):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
