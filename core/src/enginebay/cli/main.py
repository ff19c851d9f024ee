"""The entry point: runs a command, and turns how it ended into an exit status. It knows no command."""

from __future__ import annotations

import sys
from typing import NoReturn

OK, FAILED, USAGE, INTERRUPTED, READER_GONE = 0, 1, 2, 130, 141
"""Exit statuses: done; engine or request; usage, configuration or installation; Ctrl-C; nobody reads stdout."""


def main() -> NoReturn:
    """Run the command that ``sys.argv`` names."""
    try:
        import click  # noqa: F401 - only whether it is there
    except ImportError:
        sys.stderr.write("error: the command line is not installed.\nhint: pip install 'enginebay[cli]'\n")
        sys.exit(USAGE)
    sys.exit(_run())


def _run() -> int:
    import click

    from enginebay.cli import output
    from enginebay.cli.app import app
    from enginebay.errors import ConfigError, EnginebayError, InstallError

    try:
        app.main(prog_name="enginebay", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except output.ReaderGoneError:
        return READER_GONE
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return USAGE
    except EnginebayError as error:
        output.show_error(error)
        return USAGE if isinstance(error, ConfigError | InstallError) else FAILED
    return OK
