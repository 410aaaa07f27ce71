"""Profiles: defaults of a fit by kind of machine, as data. `NAME.toml` beside this file, or any file of the same form.

In: a name or a path, and a network. Out: options of `trainer.fit_settings.FitSettings` by name. Keys at the top hold
for every network, those in a table named after one go before them.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The shipped profiles."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def profile(name: str, network: str, known: frozenset[str]) -> dict[str, Any]:
    """The options of a profile for a network, each of them one of `known`.

    Raises ValueError where there is no such profile, where it is no TOML, and where it holds an unknown option.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        choice = ", ".join(names())
        raise ValueError(f"there is no profile {name!r}: name one of {choice}, or a file NAME.toml") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    tables = {key: values.pop(key) for key in list(values) if isinstance(values[key], dict)}
    chosen = {**values, **tables.get(network, {})}
    if unknown := {key for table in (values, *tables.values()) for key in table} - known:
        raise ValueError(f"{path} sets {', '.join(sorted(unknown))}, which a fit has no option for")
    return chosen
