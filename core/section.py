"""What every table of an environment's file is made of."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from core.secret_reference import SecretReference

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,39}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]

# "Empty" in a description means the key left out as well as "": a variable that overrides the file can only be "".
EMPTY_IS_NONE = BeforeValidator(lambda value: None if value == "" else value)
OptionalText = Annotated[str | None, EMPTY_IS_NONE]
OptionalSecret = Annotated[SecretReference | None, EMPTY_IS_NONE]


def plain_address(address: str, sign_in: str = "") -> str:
    """Given an address, return it without a slash at its end. Raise ValueError when it is none, or holds a user, a password or a query; `sign_in`: where those belong."""
    parts = urlsplit(address)
    # Reading the port raises ValueError when it is none.
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("an address that begins with http:// or https://")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("; ".join(filter(None, ("an address without user, password and query", sign_in))))
    return address.rstrip("/")


Address = Annotated[str, AfterValidator(plain_address)]


class Section(BaseModel):
    """A table of the file; an unknown key is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
