"""Reading an environment: deployments/environments/NAME.toml, and variables `NIGHTSHIFT_NAME__TABLE__KEY` that override it.

Nothing is resolved and nothing is connected to here; a mistake in the file is found before anything is touched.
"""

import functools
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from core.environment import Environment
from core.environment_keys import Path as KeyPath
from core.environment_keys import dotted, keys_at, place_at
from core.environment_mistakes import NAME_RULE, explain, suggest
from core.errors import ConfigurationError
from core.section import NAME_PATTERN

FOLDER_VARIABLE = "NIGHTSHIFT_ENVIRONMENTS"
MOST_MISTAKES_TOLD = 8


def environments_folder() -> Path:
    """The folder of the environment files: NIGHTSHIFT_ENVIRONMENTS, or deployments/environments of this checkout."""
    configured = os.environ.get(FOLDER_VARIABLE, "")
    if configured:
        return Path(configured).expanduser().absolute()
    return Path(__file__).resolve().parent.parent / "deployments" / "environments"


def environment_names() -> list[str]:
    """The names of the environments that have a file, in order."""
    return sorted(file.stem for file in environments_folder().glob("*.toml") if re.fullmatch(NAME_PATTERN, file.stem))


def environment_file(name: str) -> Path:
    """Given an environment's name, return where its file is or would be. Raise ConfigurationError when it is no name (a path, say)."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigurationError(
            "read the environment", "its name", f"{name[:60]!r} is no environment's name", NAME_RULE
        )
    return environments_folder() / f"{name}.toml"


def variable_prefix(name: str) -> str:
    """Given an environment's name, return how the variables that override its file begin: `NIGHTSHIFT_EU_STAGING__` for eu-staging."""
    return f"NIGHTSHIFT_{name.upper().replace('-', '_')}__"


def load_environment(name: str) -> Environment:
    """Given an environment's name, return it. Raise ConfigurationError naming file, key, what was found and what is allowed."""
    file = environment_file(name)
    if not file.is_file():
        known = ", ".join(environment_names()) or "none"
        elsewhere = f" or correct {FOLDER_VARIABLE}, which names this folder" if os.environ.get(FOLDER_VARIABLE) else ""
        raise ConfigurationError(
            f"read environment {name}",
            str(file),
            f"there is no such file; environments in this folder: {known}",
            f"Make it with: nightshift init {name}{elsewhere}",
        )
    mistakes = _variable_mistakes(name)
    if mistakes:
        raise _wrong(name, "variables of the process", mistakes)
    try:
        settings = _settings_class(name, file)(name=name)  # type: ignore[call-arg]  # the sources fill the rest
    except tomllib.TOMLDecodeError as error:
        raise _wrong(name, str(file), (f"not TOML: {error}",)) from error
    except UnicodeDecodeError as error:
        raise _wrong(name, str(file), (f"not UTF-8 text (byte {error.start})",)) from error
    except OSError as error:
        raise _wrong(name, str(file), (f"not readable: {error.strerror}",)) from error
    except ValidationError as error:
        # Not chained: pydantic's own message quotes the values, and one of them may be a secret.
        raise _wrong(name, str(file), explain(error, lambda path: _origin(name, path))) from None
    # A plain Environment: objects of a class made in a function do not pickle.
    return Environment(**{field: getattr(settings, field) for field in Environment.model_fields})


def _wrong(name: str, where: str, mistakes: tuple[str, ...]) -> ConfigurationError:
    told = list(mistakes[:MOST_MISTAKES_TOLD])
    if len(mistakes) > len(told):
        told.append(f"and {len(mistakes) - len(told)} more")
    return ConfigurationError(
        f"read environment {name}", where, "; ".join(told), "Every key is explained in docs/environments.md"
    )


class _TomlSource(TomlConfigSettingsSource):
    """The file; `name` in it is refused, since the file's name is the environment's."""

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        return {("name (taken from the file's name)" if key == "name" else key): values[key] for key in values}


class _VariablesSource(EnvSettingsSource):
    """The variables; a database's name is written with '_' for '-', which no variable's name can hold."""

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        databases = values.get("databases")
        if isinstance(databases, dict):
            values["databases"] = {key.replace("_", "-"): value for key, value in databases.items()}
        return values


@functools.lru_cache(maxsize=16)
def _settings_class(name: str, file: Path) -> type[Environment]:
    """The class that reads file and variables, anew for each object. Kept: pydantic takes 20 ms to make one, and a release reads its environment at each step."""

    class Settings(Environment, BaseSettings):
        model_config = SettingsConfigDict(
            toml_file=file,
            env_prefix=variable_prefix(name),
            env_nested_delimiter="__",
            extra="forbid",
            frozen=True,
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic-settings'
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, _VariablesSource(settings_cls), _TomlSource(settings_cls)

    return Settings


def _overrides(name: str) -> Iterator[tuple[str, KeyPath, str]]:
    """Each variable that overrides a key of this environment: its name, the key's path, its value. Names are not case-sensitive."""
    prefix = variable_prefix(name)
    for variable, value in os.environ.items():
        if variable.upper().startswith(prefix):
            steps = variable[len(prefix) :].lower().split("__")
            if steps[0] == "databases" and len(steps) > 1:
                steps[1] = steps[1].replace("_", "-")
            yield variable, tuple(steps), value


def _origin(name: str, path: KeyPath) -> str:
    """The variable that gave the value at path, or a part of it; empty when it stands in the file."""
    for variable, key, _ in _overrides(name):
        if path[: len(key)] == key:
            return f"variable {variable}"
    return ""


def _variable_mistakes(name: str) -> tuple[str, ...]:
    """What pydantic-settings would pass over in silence: a variable that overrides no key, and lists and tables that are not JSON."""
    mistakes = []
    for variable, path, value in _overrides(name):
        place = place_at(path)
        if place is None or path == ("name",):
            known = next(path[:length] for length in range(len(path) - 1, -1, -1) if place_at(path[:length]))
            hint = suggest(str(path[len(known)]), keys_at(known))
            mistakes.append(f"{variable}: there is no key {dotted(path)}; {hint}")
        elif place.is_composite and not _is_json(value):
            mistakes.append(f'{variable}: a list or table is given as JSON, e.g. ["auth", "storage"]')
    return tuple(mistakes)


def _is_json(value: str) -> bool:
    try:
        return isinstance(json.loads(value), list | dict)
    except ValueError:
        return False
