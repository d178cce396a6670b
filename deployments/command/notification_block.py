"""Notification blocks of the Prefect server (Slack, Teams, e-mail, a webhook): found by the name that a person gives, or by the id that an automation holds."""

from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectNotFound

from core.errors import ConfigurationError

HOW_TO_MAKE_ONE = "Make it in the UI under Blocks (Slack Webhook, Microsoft Teams Webhook, Custom Webhook, …), then give TYPE/NAME as its page has it"


@dataclass(frozen=True)
class NotificationBlock:
    """A block that can notify: its id, and TYPE/NAME."""

    id: UUID
    name: str


def named_block(client: SyncPrefectClient, given: str) -> NotificationBlock:
    """Given TYPE/NAME (slack-webhook/oncall), return the block. Raise ConfigurationError when there is none, or it cannot notify."""
    kind, _, name = given.partition("/")
    if not kind or not name:
        raise _wrong(given, "it is not TYPE/NAME")
    try:
        document = client.read_block_document_by_name(name, kind, include_secrets=False)
    except ObjectNotFound as error:
        raise _wrong(given, "the server has no such block") from error
    return _checked(document, given)


def find_block(client: SyncPrefectClient, block_id: UUID) -> NotificationBlock:
    """The block of an id. Raise ConfigurationError when it is gone: what tells it tells nobody."""
    try:
        document = client.read_block_document(block_id, include_secrets=False)
    except ObjectNotFound as error:
        raise ConfigurationError(
            "find the block that the automations tell",
            str(block_id),
            "the server does not have it any more, so nobody is told",
            "Name another: nightshift automations --notify TYPE/NAME, or --notify none",
        ) from error
    return _checked(document, str(block_id))


def _checked(document: BlockDocument, given: str) -> NotificationBlock:
    schema, kind = document.block_schema, document.block_type
    if schema is None or "notify" not in schema.capabilities:
        raise _wrong(given, "it is no notification block")
    return NotificationBlock(document.id, f"{kind.slug if kind else given.partition('/')[0]}/{document.name}")


def _wrong(given: str, found: str) -> ConfigurationError:
    return ConfigurationError("find the notification block", given, found, HOW_TO_MAKE_ONE)
