"""Configuration copies: named by their content, immutable, and read by every place of a Pod template."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from core.config_copies import (
    config_map_names,
    copy_document,
    copy_name,
    plain_name,
    secret_names,
    unused_copies,
    with_config_copies,
)

Document = dict[str, Any]


def config_map(name: str = "settings", **data: str) -> Document:
    return {
        "metadata": {"name": name, "namespace": "shop", "labels": {"argocd.argoproj.io/instance": "x"}},
        "data": data,
    }


def template() -> Document:
    """A Pod template that reads ConfigMap settings and Secret keys in every way there is."""
    reading = {
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "keys-env", "key": "b"}}},
            {"name": "C", "value": "settings"},
        ],
        "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "P_"}, {"secretRef": {"name": "keys-from"}}],
    }
    return {
        "metadata": {"labels": {"app": "api"}},
        "spec": {
            "containers": [{"name": "api", **reading}, {"name": "proxy"}],
            "initContainers": [{"name": "init", **reading}],
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "v", "configMap": {"name": "settings", "items": [{"key": "a", "path": "a"}]}},
                {"name": "s", "secret": {"secretName": "keys-volume"}},
                {
                    "name": "p",
                    "projected": {
                        "sources": [
                            {"configMap": {"name": "settings"}},
                            {"secret": {"name": "keys-projected"}},
                            {"downwardAPI": {}},
                        ]
                    },
                },
                {"name": "other", "configMap": {"name": "unrelated"}},
            ],
        },
    }


def test_every_place_that_reads_the_configuration_reads_the_copy_and_nothing_else_changes() -> None:
    before = template()
    made = with_config_copies(before, {"settings": "settings-0123456789"})
    assert config_map_names(made) == ("settings-0123456789", "unrelated")
    assert str(made).count("settings-0123456789") == str(before).count("'name': 'settings'") == 6
    assert str(made).replace("settings-0123456789", "settings") == str(before)
    assert config_map_names(before) == ("settings", "unrelated")


def test_the_next_release_finds_the_copy_of_the_one_before() -> None:
    once = with_config_copies(template(), {"settings": "settings-0123456789"})
    assert with_config_copies(once, {"settings": "settings-abcdefabcd"}) == with_config_copies(
        template(), {"settings": "settings-abcdefabcd"}
    )


def test_a_name_that_only_looks_like_a_copy_is_left_alone() -> None:
    assert plain_name("settings-0123456789", ["settings"]) == "settings"
    assert plain_name("settings-more", ["settings"]) is None
    assert plain_name("other-0123456789", ["settings"]) is None
    assert plain_name("a-0123456789", ["a", "a-0123456789"]) == "a-0123456789"


def test_a_copy_is_immutable_and_carries_nothing_by_which_a_tool_would_prune_it() -> None:
    copy = copy_document(config_map(a="1"), "production")
    assert copy["immutable"] is True
    assert copy["data"] == {"a": "1"}
    assert copy["metadata"]["labels"] == {
        "nightshift.dev/environment": "production",
        "nightshift.dev/config-of": "settings",
    }


@given(
    one=st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
    other=st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
)
def test_copies_have_the_same_name_exactly_when_their_content_is_the_same(
    one: dict[str, str], other: dict[str, str]
) -> None:
    assert (copy_name(config_map() | {"data": one}) == copy_name(config_map() | {"data": other})) is (one == other)
    assert (copy_name(config_map() | {"data": one}) == copy_name(config_map() | {"data": {}, "binaryData": one})) is (
        not one
    )


def test_the_secrets_of_a_template_are_named() -> None:
    assert secret_names(template()) == ("keys-env", "keys-from", "keys-projected", "keys-volume", "pull")


def test_copies_that_no_template_reads_are_named() -> None:
    copies = [config_map("settings-0123456789"), config_map("settings-abcdefabcd")]
    read = with_config_copies(template(), {"settings": "settings-abcdefabcd"})
    assert unused_copies(copies, [read]) == ("settings-0123456789",)
