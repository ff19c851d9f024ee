"""The commands by name: each is imported when it is run, and those of plugins are found through entry points."""

from __future__ import annotations

from importlib import import_module

import click

_COMMANDS = {
    "run": "Generate text from a prompt.",
    "chat": "Talk with a model.",
    "engines": "Show what is installed, and whether it runs here.",
    "tokenize": "Show the tokens of a text.",
    "check": "Run the conformance kit against an engine.",
    "new-engine": "Write a plugin package for an engine of your own.",
}


class _Commands(click.Group):
    """A group whose commands are modules of this package; what is not among them is looked for in plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self._summaries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name in _COMMANDS:
            command = import_module(f"enginebay.cli.{cmd_name.replace('-', '_')}").command
        else:
            from enginebay.entrypoints import COMMANDS, installed, only

            entries = installed(COMMANDS).get(cmd_name)
            command = only(entries).load() if entries else None
        if command is not None and not isinstance(command, click.Command):
            from enginebay.errors import ContractError

            raise ContractError(f"The command {cmd_name} of a plugin is no click command.", command=cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries().items()))

    def _summaries(self) -> dict[str, str]:
        from enginebay.entrypoints import COMMANDS, installed

        return {name: f"From {found[0].distribution}." for name, found in installed(COMMANDS).items()} | _COMMANDS


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="enginebay", message="%(package)s %(version)s")
@click.option("-v", "--verbose", count=True, help="Show what engines log; twice for all of it.")
def app(verbose: int) -> None:
    """Run language models on the engines that are installed here."""
    if verbose:
        import logging

        logging.basicConfig(level=logging.INFO if verbose == 1 else logging.DEBUG, format="%(name)s: %(message)s")
