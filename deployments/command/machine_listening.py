"""Which environments listen to GitHub, as what `nightshift up` started knows them: with the variables that it was given, not those of who asks."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import psutil

from core.errors import NightshiftError
from deployments.command.terminal import console
from deployments.local.supervised import RECEIVER, Supervised
from tasks.environments import environment_names, load_environment

# Of our own variables: folders, and what overrides the environments' files.
_OURS = "NIGHTSHIFT_"


def environments_that_listen() -> tuple[list[str], list[str]]:
    """The environments that listen to GitHub, and those whose file is wrong, each of which is told."""
    found, wrong = [], []
    for name in environment_names():
        try:
            if load_environment(name).webhook is not None:
                found.append(name)
        except NightshiftError as error:
            wrong.append(name)
            console.print(str(error), style="yellow", markup=False, soft_wrap=True)
    return found, wrong


def environments_unheard(supervised: Supervised) -> tuple[list[str], list[str]]:
    """The environments that listen to GitHub by now, while no receiver was started for any, and those whose file is wrong, which a receiver would tell itself."""
    if any(one.name == RECEIVER for one in supervised.programs()):
        return [], []
    with with_its_environments(supervised):
        return environments_that_listen()


@contextmanager
def with_its_environments(supervised: Supervised) -> Iterator[None]:
    """Within the block, our variables (the folder of environments, what overrides their files) are those that `up` was given."""
    mine = _ours(os.environ)
    with suppress(psutil.Error):
        _take(_ours(psutil.Process(supervised.pid).environ()))
    try:
        yield
    finally:
        _take(mine)


def _ours(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name.startswith(_OURS)}


def _take(variables: Mapping[str, str]) -> None:
    for name in _ours(os.environ):
        del os.environ[name]
    os.environ.update(variables)
