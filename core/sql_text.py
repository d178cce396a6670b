"""Values and lists as SQL text, for statements that take no parameters (CREATE DATABASE, ALTER ROLE … SET, COMMENT)."""

from collections.abc import Iterator

# Their values are lists of names, each in double quotes where it needs them (variable_is_guc_list_quote, src/bin/pg_dump/dumputils.c). Kept as one
# string the list would be a single strange name.
QUOTED_LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)


def literal(text: str) -> str:
    """Given a text, return it as an SQL string, whatever standard_conforming_strings is. Raise ValueError for a NUL, which no text of PostgreSQL holds."""
    if "\0" in text:
        raise ValueError("a text of PostgreSQL holds no NUL")
    doubled = text.replace("'", "''")
    if "\\" in doubled:
        return "E'" + doubled.replace("\\", "\\\\") + "'"
    return f"'{doubled}'"


def setting_value(name: str, value: str) -> str:
    """Given a setting's name and its value as pg_db_role_setting has it, return what stands after `SET name TO`. Raise ValueError for a broken list."""
    if name.lower() not in QUOTED_LISTS:
        return literal(value)
    # An empty list cannot be written as no item at all; one empty string means the same (search_path = '').
    return ", ".join(literal(item) for item in split_list(value)) or "''"


def split_list(value: str) -> tuple[str, ...]:
    """Given a list of names as a setting holds it, return the names (SplitGUCList, src/bin/pg_dump/dumputils.c). Raise ValueError for a broken one."""
    if not value.strip():
        return ()
    return tuple(_items(value))


def _items(value: str) -> Iterator[str]:
    position = 0
    while True:
        position = _skip_blanks(value, position)
        if value[position : position + 1] == '"':
            item, position = _quoted_item(value, position)
        else:
            end = position
            while end < len(value) and value[end] != "," and not value[end].isspace():
                end += 1
            item, position = value[position:end], end
            if not item:
                raise ValueError("a list of names with an empty place")
        yield item
        position = _skip_blanks(value, position)
        if position == len(value):
            return
        if value[position] != ",":
            raise ValueError("a list of names without a comma between two")
        position += 1


def _quoted_item(value: str, position: int) -> tuple[str, int]:
    item = []
    position += 1
    while True:
        end = value.find('"', position)
        if end < 0:
            raise ValueError("a list of names with a quote that does not end")
        item.append(value[position:end])
        if value[end + 1 : end + 2] != '"':
            return "".join(item), end + 1
        item.append('"')
        position = end + 2


def _skip_blanks(value: str, position: int) -> int:
    while position < len(value) and value[position].isspace():
        position += 1
    return position
