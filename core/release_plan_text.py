"""A plan for people: who asked for what, and each object that would change, as a difference."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from core.image_reference import shortened
from core.redaction import redact
from core.release_plan import ReleasePlan, Target
from core.report_text import escape_markdown

Document = dict[str, Any]
_MARKED = {"failed": "**FAILED**", "waived": "**waived**"}


class PlannedObject(NamedTuple):
    """An object that a release would change or make (before: {}), as it is and as it would be."""

    name: str
    before: Document
    after: Document


def plan_text(plan: ReleasePlan, objects: Iterable[PlannedObject] = ()) -> str:
    """Given a plan and the objects that it would change beside the workloads, return it as Markdown: the artifact of the run."""
    lines = [
        f"**Plan {plan.sha256[:12]}** of {escape_markdown(plan.release_id)} for {escape_markdown(plan.environment)}",
        "",
        *(f"- {what}: {escape_markdown(value)}" for what, value in plan_rows(plan)),
        "",
        *(line for target in plan.targets for line in _difference(target, plan)),
        *(line for one in objects for line in _block(one.name, difference_text(one.before, one.after, one.name))),
    ]
    return redact("\n".join(lines))


def approval_text(plan: ReleasePlan, checks: Iterable[Mapping[str, str]]) -> str:
    """Given a plan and the checklist's rows, return what a person reads who is asked to approve it, in a narrow window: digests are cut, the artifact has them whole."""
    text = "\n".join(
        [
            f"Approve the plan **{plan.sha256[:8]}**: {escape_markdown(plan.image)} to {escape_markdown(plan.environment)}.",
            "",
            *(f"- {what}: {escape_markdown(value)}" for what, value in plan_rows(plan)),
            "",
            *_checklist(list(checks)),
            "",
            "The whole difference is among the run's artifacts.",
        ]
    )
    return shortened(text)


def _checklist(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A list and no table, whose last column Prefect's dialog cuts off. What nobody looked at is one line: it must not hide what was found, nor the form's fields."""
    found = [one for one in rows if one["state"] != "not-configured"]
    unseen = [f"{one['check']} ({escape_markdown(one['found'])})" for one in rows if one["state"] == "not-configured"]
    lines = [
        f"- {one['check']}: {_MARKED.get(one['state'], one['state'])}: {escape_markdown(one['found'])}"
        for one in sorted(found, key=lambda one: one["state"] == "passed")
    ]
    return ["**Checklist**", "", *lines, *([f"- not looked at: {'; '.join(unseen)}"] if unseen else [])]


def plan_rows(plan: ReleasePlan) -> list[tuple[str, str]]:
    """The plan's facts, each with its name."""
    rows = [
        ("image", plan.image),
        ("commit", plan.commit),
        ("asked for by", plan.requested_by or "not said"),
        ("strategy", plan.strategy),
        (
            "schema",
            f"{plan.schema_compatibility} compatible"
            if plan.schema_compatibility == "backward"
            else "breaking: no way back by itself",
        ),
        ("backup", ", ".join(plan.backup) or "none"),
        ("migration", f"{plan.migration.image} on {plan.migration.database}" if plan.migration else "none"),
        *((f"workload {target.key}", _change(target, plan)) for target in plan.targets),
    ]
    if plan.sides is not None:
        shares = ", ".join(f"{share} %" for share in plan.sides.shares)
        rows.append(("traffic", f"from {plan.sides.live_name} to {plan.sides.following_name}: {shares}"))
    if plan.frontend is not None:
        rows.append(("front end", plan.frontend.told))
    if plan.settings is not None:
        rows.append(("settings", f"{plan.settings.sha256[:8]}: {plan.settings.told}"))
    rows += [(f"waived: {item}", why) for item, why in sorted(plan.waived.items())]
    return rows


def difference_text(before: Document, after: Document, name: str) -> str:
    """The difference of two documents as a unified diff of their YAML."""
    old, new = (yaml.safe_dump(one, sort_keys=True, default_flow_style=False).splitlines() for one in (before, after))
    return "\n".join(
        difflib.unified_diff(old, new, fromfile=f"{name} (now)", tofile=f"{name} (after)", lineterm="", n=2)
    )


def _change(target: Target, plan: ReleasePlan) -> str:
    return "runs it already" if target.runs(plan.commit) else f"to {plan.image_of(target)}"


def _difference(target: Target, plan: ReleasePlan) -> list[str]:
    name = plan.sides.following_name if plan.sides is not None and target in plan.deployments("api") else target.key
    text = difference_text(target.before, target.after, name)
    return _block(target.key, text or "(no change of the Pod template)")


def _block(name: str, text: str) -> list[str]:
    return [f"`{name}`", "", "```diff", text or "(no change)", "```", ""]
