"""A reader of README and docs/: a person at bash in a checkout of their own, who types a page's lines as they stand there.

The checkout is what is here now, in a folder of its own with a `.venv` that `make install` makes, cloned from a bare repository beside it, so that `git pull` has
somebody to ask. What the reader of a page puts in the place of what the page has as an example (names, ids) stands in one table, `STANDS_FOR`, and in the test.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from deployments.local.data_folder import CHECKOUT
from deployments.local.ports import answers, free_port
from tests.docs_pages import lines_of
from tests.waiting import wait_until

# What the pages have as an example, and the environment, database and people of these tests.
STANDS_FOR = {
    "production": "mine",
}


@dataclass
class GoesOn:
    """A program that goes on until Ctrl-C."""

    process: subprocess.Popen[bytes]
    log: Path

    def until(self, text: str, *, seconds: float = 90) -> None:
        """Wait until it has said so."""
        wait_until(lambda: text in self._said(), text, seconds=seconds)

    def until_it_answers(self, address: str) -> None:
        """Wait until an address answers well."""

        def well() -> bool:
            self._said()
            with suppress(httpx.TransportError):
                return httpx.get(address, timeout=20, trust_env=False).is_success
            return False

        wait_until(well, address, seconds=90)

    def _said(self) -> str:
        said = self.log.read_text()
        assert self.process.poll() is None, said
        return said


@dataclass
class Reader:
    """A person at bash. Exported variables, the folder and what `activate` sets go on from line to line, as in a terminal."""

    root: Path
    variables: dict[str, str]
    # Every line that ran, as its page has it, and as it was typed.
    ran: list[tuple[str, str, str]] = field(default_factory=list)
    terminal: str = "first"
    _ports: tuple[int, ...] | None = None

    @property
    def checkout(self) -> Path:
        """Where the reader begins."""
        return self.root / "nightshift"

    def opens(self, terminal: str, **variables: str) -> Reader:
        """The same person at another terminal, in the checkout again, with its programs; nothing is exported there but these variables."""
        path = f"{self.checkout / '.venv/bin'}:{self.variables['PATH']}"
        return Reader(self.root, {**self.variables, "PATH": path, **variables}, self.ran, terminal)

    def types(
        self,
        page: str,
        line: str,
        *,
        code: int = 0,
        answers: str = "",
        stands_for: Mapping[str, str] | None = None,
        seconds: float = 400,
    ) -> str:
        """Type a line of a page, with what stands for its examples, and return all that it said. Fail unless the page has it, and it ends with this code."""
        ended = self.ends(page, line, code=code, answers=answers, stands_for=stands_for, seconds=seconds)
        return ended.stdout + ended.stderr

    def ends(
        self,
        page: str,
        line: str,
        *,
        code: int = 0,
        answers: str = "",
        stands_for: Mapping[str, str] | None = None,
        seconds: float = 400,
    ) -> subprocess.CompletedProcess[str]:
        """The same, with what it said in its two parts."""
        typed = self._put(page, line, stands_for)
        ended = self.shell(typed, answers=answers, seconds=seconds)
        told = f"{page}: {typed}\nended with {ended.returncode}, not {code}:\n{ended.stdout}{ended.stderr}"
        assert ended.returncode == code, told
        return ended

    @contextmanager
    def goes_on(
        self, page: str, line: str, *, stands_for: Mapping[str, str] | None = None, group: bool = False
    ) -> Iterator[GoesOn]:
        """Type a line whose program goes on until Ctrl-C, which is typed when the block ends; it must end well then.

        `group`: the program has others begin, which hear Ctrl-C too, as all do that a terminal's line has started (make).
        """
        typed = self._put(page, line, stands_for)
        log = self.root / f"{self.terminal}.log"
        with (
            log.open("w") as out,
            subprocess.Popen(
                ["bash", "-c", f"{self._before()}\nexec {typed}"],
                env=self.variables,
                stdout=out,
                stderr=out,
                start_new_session=group,
            ) as process,
        ):

            def send(number: signal.Signals) -> None:
                if group:
                    os.killpg(process.pid, number)
                else:
                    process.send_signal(number)

            try:
                yield GoesOn(process, log)
                send(signal.SIGINT)
                # make ends itself by the signal, once its program has ended.
                assert process.wait(60) in ({0, 130, -signal.SIGINT} if group else {0, 130}), log.read_text()
            finally:
                with suppress(ProcessLookupError):
                    send(signal.SIGKILL)

    def _put(self, page: str, line: str, stands_for: Mapping[str, str] | None) -> str:
        found = [one for one in lines_of(page) if without_comment(one) == line]
        assert found, f"{page} has no line {line!r}"
        typed = put(found[0], {**(stands_for or {}), **STANDS_FOR})
        self.ran.append((page, line, without_comment(typed)))
        return typed

    def _before(self) -> str:
        state, folder = self._left_off
        return f'. {state}; cd "$(cat {folder})"' if state.exists() else f"cd {self.checkout}"

    @property
    def _left_off(self) -> tuple[Path, Path]:
        """The files of what is exported, and of the folder."""
        return self.root / f"{self.terminal}.state", self.root / f"{self.terminal}.folder"

    def shell(self, script: str, *, answers: str = "", seconds: float = 400) -> subprocess.CompletedProcess[str]:
        """Run a line of bash where the one before left off."""
        state, folder = self._left_off
        text = f"{self._before()}\n{script}\ncode=$?; export -p >{state}; pwd >{folder}; exit $code\n"
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            # To files: what is left running in the background holds them open, and nobody waits for it.
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", text],
                env=self.variables,
                input=answers,
                stdout=out,
                stderr=err,
                text=True,
                check=False,
                timeout=seconds,
            )
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(script, done.returncode, out.read(), err.read())

    @property
    def up(self) -> dict[str, str]:
        """What stands for `make up`: itself; on a machine whose ports it wants are taken, the same with others."""
        if self._ports is None:
            taken = answers(4200) or answers(8088)
            self._ports = (free_port(), free_port()) if taken else ()
        if not self._ports:
            return {}
        server, hook = self._ports
        return {"make up": f"nightshift up --port {server} --listen 127.0.0.1:{hook}"}


def without_comment(line: str) -> str:
    """A line without what stands behind it for the reader."""
    return re.sub(r"\s+#.*$", "", line).strip()


def put(line: str, stands_for: Mapping[str, str]) -> str:
    """A line with what stands for its examples: whole words, in the order of the table."""
    for example, real in stands_for.items():
        line = re.sub(rf"(?<![\w.]){re.escape(example)}(?![\w])", lambda _, real=real: real, line)  # type: ignore[misc]
    return line


def this_shell() -> dict[str, str]:
    """The variables of the shell that the tests run in, without what is of a platform, a server or an account."""
    others = ("PREFECT_", "NIGHTSHIFT_", "AWS_", "PYTEST_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    own.pop("VIRTUAL_ENV", None)
    return {**own, "COLUMNS": "200", "DO_NOT_TRACK": "1"}


@contextmanager
def a_reader() -> Iterator[Reader]:
    """A reader with a fresh checkout, and neither a platform nor a Prefect profile of anybody's."""
    # Short, for the supervisor's socket.
    root = Path(tempfile.mkdtemp(prefix="ns-read-", dir="/tmp"))
    root.chmod(0o755)
    try:
        _publish(root)
        (root / "home").mkdir()
        own = this_shell()
        # Where packages come from is this machine's.
        if (settings := Path.home() / ".config/pip/pip.conf").exists():
            own.setdefault("PIP_CONFIG_FILE", str(settings))
        yield Reader(root, {**own, "HOME": str(root / "home")})
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _publish(root: Path) -> None:
    """Make a repository of what is here now, and clone it as a person does."""
    source = root / "source"
    listed = git(CHECKOUT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, listed):
        if (CHECKOUT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, source / name)
    git(source, "init", "--quiet", "--initial-branch", "main")
    commit(source, "the version that is installed")
    git(root, "clone", "--quiet", "--bare", str(source), "remote.git")
    git(source, "remote", "add", "origin", str(root / "remote.git"))
    git(root, "clone", "--quiet", str(root / "remote.git"), "nightshift")


def commit(folder: Path, message: str) -> None:
    """Commit all that lies in a folder."""
    git(folder, "add", "--all", "--force")
    git(folder, "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "--quiet", "--message", message)


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it printed."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout
