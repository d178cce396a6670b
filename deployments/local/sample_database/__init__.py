"""A database to try nightshift on: the platform's first schema, and what real databases have and backup tools forget.

`sql/` holds it by topic, in the order of the numbers; `roles.sql` what belongs to the whole cluster; `extension_path/` an extension with configuration
tables, which a server finds only when told to (PostgreSQL 18: `extension_control_path = '$system:…/extension_path'`).
"""

from deployments.local.sample_database.loader import BACKUP_ROLE, OWNER_ROLE, LeftOut, SampleInfo, load_sample

__all__ = ["BACKUP_ROLE", "OWNER_ROLE", "LeftOut", "SampleInfo", "load_sample"]
