"""Negative controls: damage done on purpose, which a drill must see, or it proves nothing. In tables of the restored copy, and in a stored part in memory."""

from tasks.damaged_part import stream_controls
from tasks.damaged_table import database_controls

__all__ = ["database_controls", "stream_controls"]
