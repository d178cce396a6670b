"""Parameters are held to the flow's own signature before anything is accepted, as Prefect does when the run begins; then it is too late to tell who asked."""

import importlib
import inspect
import json
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic_core import to_jsonable_python

from core.environment_webhook import WebhookTrigger
from core.webhook_event import RefusedError

# As in prefect.yaml, which tests hold.
ENTRYPOINTS = {
    "release": "flows.release:release",
    "rollback": "flows.rollback:rollback",
    "nightly-backup": "flows.nightly_backup:nightly_backup",
    "dr-drill": "flows.dr_drill:dr_drill",
}


@cache
def model_of(flow: str) -> type[BaseModel]:
    """Given a flow's name, return a model with its parameters as fields; made once, since Prefect's own check makes one at each call (2 ms)."""
    module, _, name = ENTRYPOINTS[flow].partition(":")
    function = getattr(importlib.import_module(module), name).fn
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        one.name: (hints[one.name], ... if one.default is inspect.Parameter.empty else one.default)
        for one in inspect.signature(function).parameters.values()
    }
    return create_model(flow, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields)


def require_fitting(flow: str, parameters: Mapping[str, Any]) -> None:
    """Raise RefusedError (422) naming the parameter that the flow does not take as it is. Values are not repeated."""
    try:
        # As the server holds them to the flow's JSON schema: a text is no number and no true or false.
        model_of(flow).model_validate_json(json.dumps(dict(parameters)), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise RefusedError(422, f"parameter {where[:60]!r} of {flow}: {first['msg']}") from None


def mistake_in(trigger: WebhookTrigger) -> str:
    """What is wrong with a rule's parameters, in a sentence; empty when a request can fill the flow's."""
    fields = model_of(trigger.flow).model_fields
    given = {*trigger.take, *trigger.accept, *trigger.fixed, "environment"}
    unknown = sorted(given - fields.keys())
    if unknown:
        return f"{trigger.flow} has no parameter {unknown[0]!r}; it has: {', '.join(fields)}"
    missing = sorted(name for name, field in fields.items() if field.is_required() and name not in given)
    if missing:
        return f"{trigger.flow} needs the parameter {missing[0]!r}, in take, accept or fixed"
    for name in trigger.accept:
        if not _is_scalar(fields[name].annotation):
            return f"{name!r} is a table or list, which a request cannot give: only in fixed"
    for name, value in trigger.fixed.items():
        field: Any = fields[name]
        kind: Any = typing.Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        try:
            TypeAdapter(kind).validate_json(json.dumps(to_jsonable_python(value)), strict=True)
        except ValidationError:
            return f"fixed.{name} is not what {trigger.flow} takes"
    return ""


def _is_scalar(annotation: Any) -> bool:
    return annotation in {str, int, bool} or typing.get_origin(annotation) is Literal
