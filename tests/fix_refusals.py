"""What a Prefect server answers to somebody without its auth string: every route of its API over HTTP, and every websocket."""

import re
from base64 import b64encode
from pathlib import Path

import httpx
import prefect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

# For probes; they tell whether it runs, and nothing else.
OPEN_ROUTES = {("GET", "/health"), ("GET", "/ready")}
SOCKETS = {
    "/events/in",
    "/events/out",
    "/logs/out",
    "/task_runs/subscriptions/scheduled",
    "/work_pools/{work_pool_name}/workers/connect",
}
ANY_ID = "00000000-0000-0000-0000-000000000000"


def socket_routes() -> set[str]:
    """The websockets' paths, as the installed Prefect's source has them."""
    found: set[str] = set()
    for file in (Path(prefect.__file__).parent / "server" / "api").glob("*.py"):
        text = file.read_text()
        prefix = re.search(r'prefix="([^"]+)"', text)
        found |= {f"{prefix[1] if prefix else ''}{path}" for path in re.findall(r'\.websocket\(\s*"([^"]+)"', text)}
    return found


def filled(path: str) -> str:
    """A route's path with something in the place of its parameters."""
    return re.sub(r"\{[^}]+\}", ANY_ID, path)


def wrong_headers(auth_string: str) -> list[dict[str, str]]:
    """Ways to say a wrong auth string, or the right one wrongly."""
    user, _, password = auth_string.partition(":")

    def basic(text: str) -> dict[str, str]:
        return {"Authorization": f"Basic {b64encode(text.encode()).decode()}"}

    return [
        {},
        basic(f"{user}:{password}x"),
        basic(f"{user}:{password[:-1]}"),
        basic(f"{user}:"),
        basic(f":{password}"),
        basic(f"another:{password}"),
        {"Authorization": f"Bearer {auth_string}"},
        {"Authorization": auth_string},
        {"Authorization": "Basic"},
        {"Cookie": f"auth={auth_string}", "X-Forwarded-For": "127.0.0.1"},
    ]


def answered_routes(api: str, auth_string: str) -> tuple[int, set[tuple[str, str]]]:
    """Given an API's address, return how many routes it has, and those that answer anything but 401 to a request without the auth string, or with a wrong one."""
    user, _, password = auth_string.partition(":")
    routes = httpx.get(f"{api}/openapi.json", auth=(user, password), timeout=60, trust_env=False).raise_for_status()
    asked = [(method.upper(), path.removeprefix("/api")) for path, all_of_it in routes.json()["paths"].items() for method in all_of_it]  # fmt: skip
    asked.append(("GET", "/openapi.json"))
    answered = set()
    with httpx.Client(trust_env=False, timeout=30) as client:
        for number, (method, path) in enumerate(asked):
            # All ways on some routes, the plain one on every: it is one piece of code before all of them.
            for headers in wrong_headers(auth_string)[: None if number % 25 == 0 else 2]:
                body = {} if method in {"POST", "PUT", "PATCH"} else None
                answer = client.request(method, f"{api}{filled(path)}", headers=headers, json=body)
                if answer.status_code != httpx.codes.UNAUTHORIZED:
                    answered.add((method, path))
    return len(asked), answered


def let_in(api: str, path: str, token: str | None, *, protocol: bool = True) -> bool:
    """Whether a websocket lets somebody in who says this auth string, or none."""
    address = f"{api.replace('http:', 'ws:')}{filled(path)}"
    try:
        with connect(address, subprotocols=["prefect"] if protocol else None, proxy=None, open_timeout=60) as socket:  # type: ignore[list-item]
            if protocol:
                socket.send('{"type": "auth", "token": %s}' % ("null" if token is None else f'"{token}"'))
            else:
                socket.send("{}")
            return "auth_success" in str(socket.recv(timeout=30))
    except (ConnectionClosed, InvalidStatus):
        return False


def require_refusals(api: str, auth_string: str) -> None:
    """Hold that an API takes nothing from whoever lacks the auth string, and answers who has it."""
    assert socket_routes() == SOCKETS
    number, answered = answered_routes(api, auth_string)
    assert number > 150
    assert answered == OPEN_ROUTES
    # The UI's own pages are for everybody, since it asks for the auth string itself.
    for page in ("/", "/ui-settings"):
        shown = httpx.get(f"{api.removesuffix('/api')}{page}", timeout=30, follow_redirects=True, trust_env=False)
        assert shown.status_code == httpx.codes.OK
        assert auth_string.partition(":")[2] not in shown.text
    # However often somebody has tried.
    user, _, password = auth_string.partition(":")
    assert httpx.get(f"{api}/admin/version", auth=(user, password), timeout=30, trust_env=False).status_code == 200
    for path in SOCKETS:
        assert not let_in(api, path, None), path
        assert not let_in(api, path, f"{auth_string}x"), path
        assert not let_in(api, path, auth_string, protocol=False), path
        assert let_in(api, path, auth_string), path
