"""The ways in: `POST /github/ENVIRONMENT` for GitHub's webhooks, `POST /actions/ENVIRONMENT` for a job with its token. Beside them /healthz and /metrics, which
are for the inside (docs/webhook.md). 2xx is answered only after the delivery is on disk; everything that is refused is refused with one sentence."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect

from core.errors import NightshiftError
from core.webhook_event import RefusedError, actions_event, github_event, parsed_object
from core.webhook_mapping import Start, actions_request, chosen_start
from core.webhook_report import answer_of
from core.webhook_signature import signed_by
from core.webhook_token import key_id, verified_claims
from deployments.webhook.audit import Audit
from deployments.webhook.figures import Figures
from deployments.webhook.flow_parameters import require_fitting
from deployments.webhook.inbox import Delivery, Inbox, Token
from deployments.webhook.key_sets import KeySets
from deployments.webhook.listening import Listening
from deployments.webhook.reading import Sources, body_of, source_of

COMMIT_SECONDS = 8.0
# Of a header that nobody has vouched for.
_HEADER_LETTERS = 80


@dataclass
class Receiver:
    """What the ways in need. `listening` may be another one at each look; `unwell` says what is wrong with the threads, in a sentence."""

    listening: Callable[[], Mapping[str, Listening]]
    inbox: Inbox
    keys: KeySets
    sources: Sources
    audit: Audit
    figures: Figures
    wake: Callable[[], None]
    unwell: Callable[[], str]
    page: Callable[[Start, str], str]


@dataclass
class _Told:
    """What the audit log hears of a request."""

    values: dict[str, Any] = field(default_factory=dict)


def application(receiver: Receiver) -> FastAPI:
    """The application that listens."""
    # A redirect would name the host that the request's header says, and be neither counted nor told.
    app = FastAPI(title="nightshift webhook", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    @app.post("/github/{environment}")
    async def github(environment: str, request: Request) -> Response:
        return await _answered(receiver, request, "github", environment, _github)

    @app.post("/actions/{environment}")
    async def actions(environment: str, request: Request) -> Response:
        return await _answered(receiver, request, "actions", environment, _actions)

    @app.get("/actions/{delivery:path}")
    async def how_it_goes(delivery: str, request: Request) -> Response:
        return await _told_how_it_goes(receiver, request, delivery)

    @app.get("/healthz")
    async def healthz() -> Response:
        wrong = receiver.unwell()
        return JSONResponse({"status": wrong or "ok"}, 503 if wrong else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        _count_open(receiver)
        return Response(generate_latest(receiver.figures.registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def _answered(
    receiver: Receiver,
    request: Request,
    way: str,
    environment: str,
    handle: Callable[[Receiver, Listening, Request, bytes, _Told], Awaitable[tuple[int, str]]],
) -> Response:
    source, begun, told = source_of(request), 0.0, _Told()
    try:
        receiver.sources.require_room(source)
        listening = _listening(receiver, environment)
        body = await body_of(request)
        begun = time.perf_counter()
        status, result = await handle(receiver, listening, request, body, told)
    except RefusedError as refused:
        status, result = refused.status, refused.reason
    except ClientDisconnect:
        status, result = 400, "the connection ended before the body"
    receiver.figures.requests.labels(way, str(status)).inc()
    if begun:
        receiver.figures.seconds.observe(time.perf_counter() - begun)
    what = "refused" if status >= 400 else "accepted"
    receiver.audit.tell(
        what,
        way=way,
        status=status,
        reason=result,
        source=source,
        environment=environment[:_HEADER_LETTERS],
        **told.values,
    )
    headers = {"Retry-After": "60"} if status == 429 else {"Retry-After": "30"} if status == 503 else {}
    if status == 400:
        # What follows on that connection may be no request of its own.
        headers["Connection"] = "close"
    return JSONResponse(
        {"status": what, "reason": result, **({"key": told.values["key"]} if "key" in told.values else {})},
        status,
        headers,
    )


def _listening(receiver: Receiver, environment: str) -> Listening:
    found = receiver.listening().get(environment)
    if found is None:
        raise RefusedError(404, "nothing listens here")
    return found


async def _github(
    receiver: Receiver, listening: Listening, request: Request, body: bytes, told: _Told
) -> tuple[int, str]:
    name, delivery = (
        request.headers.get(header, "")[:_HEADER_LETTERS] for header in ("x-github-event", "x-github-delivery")
    )
    told.values |= {"event": name, "delivery": delivery}
    secret = signed_by(request.headers.get("x-hub-signature-256"), body, listening.secrets)
    if secret is None:
        raise RefusedError(401, "the signature is not of one of this environment's secrets")
    told.values["secret"] = secret
    payload = parsed_object(body)
    if name == "ping":
        return 200, "pong"
    event = github_event(name, payload)
    if event is None:
        return 200, "nothing is started by this event"
    told.values |= {"repository_id": event.repository_id, "ref": event.ref}
    start = chosen_start(listening.name, listening.webhook, event, datetime.now(UTC))
    return await _taken_in(receiver, start, None, told)


async def _told_how_it_goes(receiver: Receiver, request: Request, delivery: str) -> Response:
    """How what a job started goes on: to a job of the same repository alone. Nothing is changed by it, so its token is not used up."""
    source, environment = source_of(request), delivery.partition("/")[0]
    try:
        receiver.sources.require_room(source)
        claims = await _claims(receiver, _listening(receiver, environment), request)
        found = _own(await asyncio.to_thread(receiver.inbox.find, delivery), claims, environment)
        state, message = answer_of(found.state, found.reported, found.note)
        page = await asyncio.to_thread(_page, receiver, found)
        status, answer = 200, {"state": state, "message": message, "run": page}
    except RefusedError as refused:
        status, answer = refused.status, {"status": "refused", "reason": refused.reason}
        told = {"reason": refused.reason, "delivery": delivery[:_HEADER_LETTERS]}
        receiver.audit.tell("refused", way="actions", status=status, source=source, **told)
    receiver.figures.requests.labels("actions", str(status)).inc()
    return JSONResponse(answer, status, {"Retry-After": "60"} if status == 429 else None)


def _own(found: Delivery | None, claims: Mapping[str, Any], environment: str) -> Delivery:
    """The delivery, if a job of this repository made it; of another's it is not even told that it is there."""
    mine = found is not None and found.start.key.startswith(
        f"{environment}/{found.start.flow}/actions-{claims.get('repository_id', '')}-"
    )
    if found is None or not mine:
        raise RefusedError(404, "this repository's jobs started nothing of this name")
    return found


def _page(receiver: Receiver, found: Delivery) -> str:
    try:
        return receiver.page(found.start, found.run_id) if found.run_id else ""
    except NightshiftError:
        return ""


async def _claims(receiver: Receiver, listening: Listening, request: Request) -> Mapping[str, Any]:
    """What the job's token says, once it is proven to be GitHub's."""
    webhook = listening.webhook
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if webhook.audience is None:
        raise RefusedError(404, "no Actions job is listened to here")
    if scheme.lower() != "bearer":
        raise RefusedError(401, "a job's token is missing (Authorization: Bearer)")
    kid = key_id(token.strip())
    key = receiver.keys.at_hand(webhook.issuer, kid) or await asyncio.to_thread(receiver.keys.find, webhook.issuer, kid)
    return verified_claims(token.strip(), key, webhook.issuer, webhook.audience)


async def _actions(
    receiver: Receiver, listening: Listening, request: Request, body: bytes, told: _Told
) -> tuple[int, str]:
    webhook, claims = listening.webhook, await _claims(receiver, listening, request)
    told.values |= {
        name: str(claims.get(name, ""))[:200] for name in ("jti", "repository_id", "ref", "job_workflow_ref", "run_id")
    }
    asked = actions_request(parsed_object(body))
    event = actions_event(claims, asked.deployment_id)
    start = chosen_start(listening.name, webhook, event, datetime.now(UTC), asked)
    return await _taken_in(receiver, start, Token(claims["jti"], float(claims["exp"])), told)


async def _taken_in(receiver: Receiver, start: Start, token: Token | None, told: _Told) -> tuple[int, str]:
    """Put it into the inbox; wait until it is on disk."""
    told.values |= {"key": start.key, "flow": start.flow}
    require_fitting(start.flow, start.parameters)
    try:
        async with asyncio.timeout(COMMIT_SECONDS):
            outcome = await asyncio.wrap_future(receiver.inbox.accept(start, token, time.time()))
    except Exception as error:  # noqa: BLE001 - a full disk, a time-out: whatever it is, it is not on disk, and the sender must know
        told.values["error"] = f"{type(error).__name__}: {error}"
        raise RefusedError(503, "it could not be put on disk") from None
    if outcome == "token used":
        raise RefusedError(401, "the token was used already: fetch another one for each request")
    if outcome == "other parameters" and token is not None:
        raise RefusedError(409, "this attempt of this workflow has started it with other parameters already")
    receiver.wake()
    return (202, "accepted") if outcome == "accepted" else (200, "had been accepted before")


def _count_open(receiver: Receiver) -> None:
    counts = receiver.inbox.counts()
    for state in ("waiting", "started"):
        receiver.figures.open.labels(state).set(counts.get(state, (0, 0.0))[0])
    oldest = counts.get("waiting")
    receiver.figures.oldest.set(max(0.0, time.time() - oldest[1]) if oldest else 0)
