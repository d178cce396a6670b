"""The table [release.migration]: the database migration of a release."""

from pydantic import Field

from core.section import Name, Section


class Migration(Section):
    """The database migration, run as a Job before the new version starts."""

    database: Name = Field(
        description="Which of [databases.NAME] is migrated: it is backed up first, and looked at before and after."
    )
