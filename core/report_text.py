"""A report as Markdown: what the Prefect UI shows as the run's evidence artifact, and what `nightshift evidence show` prints."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from core.evidence import Report, Step
from core.units import human_bytes, human_duration

_MARKS = {"passed": "✔", "warning": "!", "failed": "✘", "skipped": "–"}
_SEVERITY_MARKS = {"note": "·", "warning": "!", "error": "✘"}
# A report of a database with thousands of tables stays readable; the JSON report has them all.
_LONGEST_TABLE = 50
# A SHA-256, or a commit in full.
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")


def render_report(report: Report, zone: ZoneInfo, location: str) -> str:
    """Given a report, the time zone to tell times in and where its JSON lies (`s3://…`), return it as Markdown, the verdict first."""
    lines = [
        f"# {report.flow} · {report.environment}: {report.verdict}",
        "",
        f"{_time(report.started, zone)} – {_time(report.finished, zone)} · run `{report.run_name}` ({report.run_id})",
        "",
    ]
    findings = [(step, finding) for step in report.steps for finding in step.findings if finding.severity != "note"]
    if findings:
        lines += ["## What needs attention", ""]
        lines += [
            f"- {_SEVERITY_MARKS[finding.severity]} **{escape_markdown(step.name)} {escape_markdown(step.subject)}**: {escape_markdown(finding.text)}"
            for step, finding in findings
        ]
        lines.append("")
    lines += ["## Steps", "", "| | step | on | took |", "|---|---|---|---:|"]
    lines += [
        f"| {_MARKS[step.state]} | {escape_markdown(step.name)} | {escape_markdown(step.subject)} | {human_duration(step.duration_ms)} |"
        for step in report.steps
    ]
    lines.append("")
    for step in report.steps:
        lines += _render_step(step)
    lines += ["## Evidence", "", f"Report {report.sequence} of this environment, signed and chained: `{location}`", ""]
    if report.previous_sha256:
        lines += [f"It holds the SHA-256 of report {report.sequence - 1}: `{report.previous_sha256}`", ""]
    lines += ["Check the whole chain with `nightshift evidence verify " + report.environment + "`.", ""]
    return "\n".join(lines)


def _render_step(step: Step) -> list[str]:
    notes = [finding.text for finding in step.findings if finding.severity == "note"]
    if not step.facts and not notes:
        return []
    lines = [f"### {escape_markdown(step.name)} · {escape_markdown(step.subject)}", ""]
    lines += [f"- {escape_markdown(note)}" for note in notes]
    scalars = {key: value for key, value in step.facts.items() if not isinstance(value, list | dict)}
    lines += [f"- {_label(key)}: {_value(key, value)}" for key, value in scalars.items()]
    lines.append("")
    for key, value in step.facts.items():
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            lines += [f"**{_label(key)}**", "", *_table(value), ""]
        elif isinstance(value, list | dict) and value:
            items = [_inner(item) for item in value] if isinstance(value, list) else _pairs(value)
            lines += [f"**{_label(key)}**: " + ", ".join(items[:_LONGEST_TABLE]), ""]
    return lines


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{_label(key)}: {_inner(value, key)}" for key, value in values.items()]


def _inner(value: Any, key: str = "") -> str:
    """What stands within a list or within another fact: never as Python writes it."""
    if isinstance(value, dict):
        return f"({'; '.join(_pairs(value))})"
    if isinstance(value, list):
        return f"({'; '.join(_inner(item) for item in value)})"
    return _value(key, value)


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = list(rows[0])
    lines = ["| " + " | ".join(_label(column) for column in columns) + " |", "|" + "---|" * len(columns)]
    lines += [
        "| " + " | ".join(_cell(column, row.get(column)) for column in columns) + " |" for row in rows[:_LONGEST_TABLE]
    ]
    if len(rows) > _LONGEST_TABLE:
        lines += ["", f"… and {len(rows) - _LONGEST_TABLE} more; the JSON report has all."]
    return lines


def _label(key: str) -> str:
    return escape_markdown(key.removesuffix("_bytes").removesuffix("_ms").replace("_", " "))


def _cell(key: str, value: Any) -> str:
    """A digest makes a table wider than the page, and its last columns are out of sight: twelve digits of it, as the JSON report has all."""
    return _DIGEST.sub(lambda found: f"{found[1]}…", _value(key, value))


def _value(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("_bytes") and isinstance(value, int):
        return human_bytes(value)
    if key.endswith("_ms") and isinstance(value, int):
        return human_duration(value)
    if isinstance(value, int):
        return f"{value:,}"
    return escape_markdown(str(value))


def escape_markdown(text: str) -> str:
    """Names come from databases: nothing in one may break the table or become markup."""
    flat = " ".join(text.split())
    return "".join("\\" + sign if sign in "\\`*_|<>[]" else sign for sign in flat)


def _time(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")
