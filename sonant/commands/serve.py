"""`sonant serve`: a folder of engines over HTTP. Its flags are the settings of the server."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from typing import Any

from sonant.commands.parsing import NEEDS_SERVE, Commands, Parser, fail


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("serve", help="serve a folder of engines over HTTP", allow_abbrev=False)
    parser.fill = _add_settings
    parser.set_defaults(run=_run, needs=NEEDS_SERVE)


def _add_settings(parser: Parser) -> None:
    # From here on, not when the server is there: imports take a second, and process 1 of a container, which has no
    # default action, would never hear of a signal in it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        from server.configuration import default_text, flag, is_list, is_table
        from server.settings import Settings
    except ImportError as error:
        parser.exit(1, f"sonant: {error}: {NEEDS_SERVE}\n")
    parser.add_argument(
        "--print-config", action="store_true", help="print the settings in force as TOML, and do not serve"
    )
    for name, field in Settings.model_fields.items():
        default = default_text(field)
        parser.add_argument(
            flag(name),
            dest=name,
            action="append" if is_table(field) or is_list(field) else "store",
            metavar="KEY=VALUE" if is_table(field) else flag(name).rpartition("-")[2].upper(),
            # A percent sign would be argparse's.
            help=f"{field.description}{f' (default: {default})' if default else ''}".replace("%", "%%"),
        )


def _run(arguments: argparse.Namespace) -> int:
    from server.configuration import ConfigurationError, load, to_toml

    try:
        settings = load(_given(arguments))
    except ConfigurationError as error:
        return fail(error, status=2)
    if arguments.print_config:
        sys.stdout.write(to_toml(settings))
        return 0
    if not settings.models.is_dir():
        return fail(f"{settings.models} is not a folder: name one that holds engines with --models")
    gc.disable()  # a tenth of the time of what follows would go into looking at what is there to stay
    try:
        from server.app import run  # not only to print: it takes longer than all of the above

        run(settings)
    except ValueError as error:
        return fail(error)
    finally:
        gc.enable()
    return 0


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that have a flag on the command line. Raises ConfigurationError."""
    from server.configuration import ConfigurationError, flag, is_table
    from server.settings import Settings

    given = {name: getattr(arguments, name) for name in Settings.model_fields}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if is_table(Settings.model_fields[name]):
            pairs = [text.partition("=") for text in value]
            for text, (_, separator, _) in zip(value, pairs, strict=True):
                if not separator:
                    raise ConfigurationError(f"{flag(name)}: {text!r} is not KEY=VALUE")
            given[name] = {key: entry for key, _, entry in pairs}
    return given
