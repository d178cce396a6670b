"""The table [release.checks]: the checklist before a release."""

from core.section import Section


class ReleaseChecks(Section):
    """The checklist before a release. What is not configured here is not asked, and the report says so."""
