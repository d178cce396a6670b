"""What every table of an environment's file is made of."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from core.secret_reference import SecretReference

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,39}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]

# "Empty" in a description means the key left out as well as "": a variable that overrides the file can only be "".
EMPTY_IS_NONE = BeforeValidator(lambda value: None if value == "" else value)
OptionalText = Annotated[str | None, EMPTY_IS_NONE]
OptionalSecret = Annotated[SecretReference | None, EMPTY_IS_NONE]


class Section(BaseModel):
    """A table of the file; an unknown key is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
