"""A process beside a swap that opens the live database again when the swap's own process dies.

While a swap waits for sessions to leave, the live database refuses connections. An error opens it at once; a process that is killed cannot. So another one stands by:
it reads a pipe whose other end only the swap's process has. That end closes by itself with that process, however it ends, and then the guard does what a Retry would do
first. It belongs to a session of its own (setsid(2)), so that what is sent to the run's process group does not reach it. A machine that is lost takes both along.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from core.environment_database import Database
from core.errors import NightshiftError, TemporaryError
from tasks.swap import recover_swap
from tasks.swap_session import described, open_session

_CHECKOUT = Path(__file__).resolve().parent.parent
_READY, _DONE = "ready", "done"
# Starting Python and connecting takes about two seconds; a busy machine takes its time.
_READY_SECONDS = 60
# The server must notice first that the swap's session is gone, or may be failing over.
_OPENING_SECONDS, _BETWEEN_SECONDS = 300, 1


@contextmanager
def guarded(login: Database, live: str) -> Iterator[None]:
    """A block in which the live database may be closed: if this process dies in it, or it ends with an error, a guard opens that again as soon as the server lets it.

    `login` is of the maintenance database. Raise TemporaryError when no guard can be had, before the block begins.
    """
    guard = subprocess.Popen(
        [sys.executable, "-m", "tasks.swap_guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=_CHECKOUT,
        start_new_session=True,
        text=True,
    )
    # Leaving this block closes the pipe and waits for the guard.
    with guard:
        assert guard.stdin is not None  # noqa: S101 - it is a pipe
        assert guard.stdout is not None  # noqa: S101 - as well
        # The password goes along as its reference, and is resolved there.
        guard.stdin.write(json.dumps({"login": login.model_dump(mode="json"), "live": live}) + "\n")
        guard.stdin.flush()
        readable, _, _ = select.select([guard.stdout], [], [], _READY_SECONDS)
        said = guard.stdout.readline().strip() if readable else f"no word of it for {_READY_SECONDS} s"
        if said != _READY:
            guard.kill()
            found = f"the guard that would open it again did not start: {said or 'it ended'}"
            raise TemporaryError("begin the swap", described(login, live), found, "Nothing was changed")
        # After an error it is not told: the swap's own way back may have failed as well, with the server away. Then it looks, and goes on trying.
        yield
        # One that has died meanwhile need not be told.
        with suppress(BrokenPipeError):
            guard.stdin.write(_DONE)
            guard.stdin.flush()


def stand_guard(login: Database, live: str) -> None:
    """Wait until the swap's process is done, has failed or is dead, and in the latter cases open the live database if it was left closed."""
    with closing(open_session(login, live)):
        print(_READY, flush=True)  # noqa: T201 - this is how the two speak
    if sys.stdin.read().strip() == _DONE:
        return
    opening = Retrying(
        retry=retry_if_exception_type(NightshiftError),
        stop=stop_after_delay(_OPENING_SECONDS),
        wait=wait_fixed(_BETWEEN_SECONDS),
    )
    opening(recover_swap, login, live)


def main() -> None:
    """Read the order from standard input and stand guard. The exit code is 1 when the database could not be asked or opened."""
    order = json.loads(sys.stdin.readline())
    try:
        stand_guard(Database.model_validate(order["login"]), order["live"])
    except (NightshiftError, RetryError) as error:
        print(str(error), flush=True)  # noqa: T201 - as above
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
