"""Settings as an operator meets them: gathered with errors that name their source, printed as TOML, and as a table.

`python -m server.configuration` prints server/SETTINGS.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

import tomli_w
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from server.settings import Settings, variable, variables

# Not settings: where settings come from.
SOURCES = {"config"}


class ConfigurationError(ValueError):
    """What an operator set cannot be; each line of the message names the source and the key."""


def load(flags: Mapping[str, Any]) -> Settings:
    """Return the settings of `flags` (values by the setting's name), the environment and the file.

    Raises ConfigurationError.
    """
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_describe(one, flags) for one in error.errors())) from None
    except SettingsError as error:  # a variable that is not JSON
        raise ConfigurationError(str(error.__cause__)) from None
    except ValueError as error:  # the file
        raise ConfigurationError(str(error)) from None


def flag(name: str) -> str:
    """Return the flag of the setting `name`: in the singular where it is repeated."""
    if is_table(Settings.model_fields[name]) or is_list(Settings.model_fields[name]):
        name = name.removesuffix("ies") + "y" if name.endswith("ies") else name.removesuffix("s")
    return "--" + name.replace("_", "-")


def is_table(field: FieldInfo) -> bool:
    """Whether a setting has values by key."""
    return get_origin(field.annotation) is dict


def is_list(field: FieldInfo) -> bool:
    """Whether a setting has several values."""
    return get_origin(field.annotation) is tuple


def to_toml(settings: Settings) -> str:
    """Return `settings` as a file that can be fed back in, with the description of each."""
    parts = []
    # What follows the head of a table belongs to it: tables come last.
    for name in sorted(_names(), key=lambda name: is_table(Settings.model_fields[name])):
        field, value = Settings.model_fields[name], getattr(settings, name)
        if value is None:
            parts.append(f"# {field.description}\n# {name} = (not set)\n")
        else:
            parts.append(f"# {field.description}\n{tomli_w.dumps({name: _plain(value)})}")
    return "\n".join(parts)


def reference() -> str:
    """Return the document of all settings, as Markdown."""
    lines = [
        "# Settings of the server",
        "",
        "Written by `python -m server.configuration > server/SETTINGS.md`. Each can be set by its flag of",
        "`sonant serve`, in the environment, or in the TOML file that `--config` or `SONANT_CONFIG` names. The first",
        "of them wins; tables are merged key by key. In the environment tables and lists are JSON, such as",
        '`SONANT_DEFAULTS=\'{"encode": "NAME"}\'`; as flags they are repeated: `--default encode=NAME`.',
        "",
        "| flag | in the environment | in the file | default | |",
        "|---|---|---|---|---|",
    ]
    for name in _names():
        field = Settings.model_fields[name]
        metavar = " KEY=VALUE, repeated" if is_table(field) else ", repeated" if is_list(field) else ""
        default = f"`{default_text(field)}`" if default_text(field) else ""
        lines.append(
            f"| `{flag(name)}`{metavar} | `{variable(name)}` | `{name}` | {default} | {field.description} |",
        )
    return "\n".join([*lines, ""])


def default_text(field: FieldInfo) -> str:
    """Return the default of a setting, as in the file; empty where there is none, or it depends on the host."""
    if field.default_factory is not None or field.default in (None, {}, ()):
        return ""
    return tomli_w.dumps({"x": [_plain(field.default)]}).removeprefix("x = [").strip(" \n,]")


def _names() -> Iterator[str]:
    return (name for name in Settings.model_fields if name not in SOURCES)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def _describe(error: ErrorDetails, flags: Mapping[str, Any]) -> str:
    if not error["loc"]:  # of no setting: unknown variables
        return error["msg"].removeprefix("Value error, ")
    name, *inner = map(str, error["loc"])
    where = ".".join([_source(name, flags), *inner])
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown; there are: {', '.join(sorted(_names()))}"
    value = "" if name.endswith("_keys") else f"{error['input']!r}: "  # it may be a key in place of its hash
    return f"{where}: {value}{error['msg']}"


def _source(name: str, flags: Mapping[str, Any]) -> str:
    """Return what the value of `name` came from, as the operator calls it."""
    if name in flags:
        return flag(name) if name in Settings.model_fields else name
    if variable(name) in {key.upper() for key in variables()}:
        return variable(name)
    return f"{flags.get('config') or os.environ.get(variable('config'))}: {name}"


if __name__ == "__main__":
    sys.stdout.write(reference())
