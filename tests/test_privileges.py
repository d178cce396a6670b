"""Lists of privileges as statements: the order, the quoting, the major and a default that was written out mean nothing; everything else does."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.privileges import NOTHING, Everything, changed_privileges, parse_items, privilege_statements

TABLE_15, TABLE_18 = Everything(frozenset("arwdDxt")), Everything(frozenset("arwdDxtm"))
COPY_OF_15 = Everything(TABLE_18.letters, frozenset("m"))
LETTERS = "arwdDxt"
EXECUTE = Everything(frozenset("X"))
# PUBLIC has no name; a role may be called anything.
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
granted = st.dictionaries(
    st.tuples(st.one_of(st.just(""), names), names),
    st.dictionaries(st.sampled_from(LETTERS), st.booleans(), min_size=1),
)


def quoted(name: str, always: bool) -> str:
    """As putid does (src/backend/utils/adt/acl.c); what else than letters, digits and underlines is quoted depends on the minor version."""
    plain = all(character.isalnum() or character == "_" for character in name) and not always
    return name if plain else '"' + name.replace('"', '""') + '"'


def items(privileges: dict[tuple[str, str], dict[str, bool]], *, always: bool = False, also: str = "") -> list[str]:
    """Privileges as aclitems' text. `also`: letters of a later major, which come with everything."""
    texts = []
    for (grantee, grantor), letters in privileges.items():
        text = "".join(f"{letter}{'*' if option else ''}" for letter, option in letters.items())
        if len(letters) == len(LETTERS) and len(set(letters.values())) == 1:
            text += "".join(f"{letter}{'*' if all(letters.values()) else ''}" for letter in also)
        texts.append(f"{quoted(grantee, always) if grantee else ''}={text}/{quoted(grantor, always)}")
    return texts


@given(granted, st.randoms(use_true_random=False), st.booleans())
def test_order_and_quoting_mean_nothing(
    privileges: dict[tuple[str, str], dict[str, bool]], random: object, always: bool
) -> None:
    texts = items(privileges)
    others = items(privileges, always=always)
    random.shuffle(others)  # type: ignore[attr-defined]
    assert parse_items(texts) == parse_items(others)
    assert privilege_statements(texts, ["=r/nobody"], TABLE_15) == privilege_statements(others, ["=r/nobody"], TABLE_15)


@given(granted, granted)
def test_two_lists_say_the_same_exactly_when_they_grant_the_same(
    one: dict[tuple[str, str], dict[str, bool]], other: dict[tuple[str, str], dict[str, bool]]
) -> None:
    default = ["=r/nobody at all"]
    said = [privilege_statements(items(privileges), default, TABLE_15) for privileges in (one, other)]
    assert (said[0] == said[1]) == (parse_items(items(one)) == parse_items(items(other)))


@given(granted)
def test_what_a_later_major_adds_to_everything_means_nothing(
    privileges: dict[tuple[str, str], dict[str, bool]],
) -> None:
    before = privilege_statements(items(privileges), ["o=arwdDxt/o"], TABLE_15)
    for also in ("", "m"):
        assert before == privilege_statements(items(privileges, also=also), ["o=arwdDxtm/o"], COPY_OF_15)


@given(granted)
def test_a_default_that_was_written_out_is_the_default(privileges: dict[tuple[str, str], dict[str, bool]]) -> None:
    texts = items(privileges)
    assert privilege_statements(texts, texts[::-1], TABLE_15) == frozenset()


@pytest.mark.parametrize(
    ("acl", "said"),
    [
        ([], {NOTHING}),
        (["=r/o"], {"SELECT to PUBLIC by o"}),
        (['"PUBLIC"=r/o'], {'SELECT to "PUBLIC" by o'}),
        (["x=r*w/o"], {"SELECT with grant option, UPDATE to x by o"}),
        (["x=a*r*w*d*D*x*t*/o"], {"ALL with grant option to x by o"}),
        (
            ["x=a*rwdDxt/o"],
            {"DELETE, INSERT with grant option, REFERENCES, SELECT, TRIGGER, TRUNCATE, UPDATE to x by o"},
        ),
        (['"a=b/c"=r/"d""e"'], {'SELECT to a=b/c by d"e'}),
        (["x=?/o"], None),
        (["nothing"], None),
    ],
)
def test_what_is_said(acl: list[str], said: set[str] | None) -> None:
    if said is None:
        with pytest.raises(ValueError, match="not a privilege"):
            privilege_statements(acl, ["o=arwdDxt/o"], TABLE_15)
    else:
        assert privilege_statements(acl, ["o=arwdDxt/o"], TABLE_15) == said


def test_each_single_privilege_and_option_is_told_apart() -> None:
    forms = [f"{letter}{star}" for letter, star in itertools.product(LETTERS + "m", ("", "*"))]
    assert len({privilege_statements([f"x={form}/o"], [], TABLE_18) for form in forms}) == len(forms)


def test_an_extensions_object_is_told_by_what_was_changed_whoever_made_it() -> None:
    made, now = ["=X/{}", "{}=X/{}"], ["{}=X/{}", "reader=X/{}"]
    said = {
        owner: changed_privileges(
            [text.replace("{}", owner) for text in now], [text.replace("{}", owner) for text in made], EXECUTE, owner
        )
        for owner in ("postgres", "admin")
    }
    assert (
        said["postgres"]
        == said["admin"]
        == {"granted: ALL to reader by its owner", "revoked: ALL to PUBLIC by its owner"}
    )
    assert changed_privileges(made, made, EXECUTE, "postgres") == frozenset()


def test_of_a_copy_from_before_it_a_later_privilege_is_left_aside_and_nothing_else() -> None:
    for without, letters in (("r", "rm"), ("r*w", "r*wm"), ("arwdDxt", "arwdDxtm"), ("arwdDxt", "arwdDxtm*")):
        said = [privilege_statements([f"x={text}/o"], ["o=m/o"], COPY_OF_15) for text in (without, letters)]
        assert said[0] == said[1] != frozenset()
    assert privilege_statements(["x=r/o"], [], COPY_OF_15) != privilege_statements(["x=w/o"], [], COPY_OF_15)
    assert privilege_statements(["x=rm/o"], [], TABLE_18) != privilege_statements(["x=r/o"], [], TABLE_18)
