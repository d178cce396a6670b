"""Reading environments: what a file may say, what overrides it, and how a mistake is told to its author."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.environment import Environment
from core.environment_keys import NOT_IN_THE_FILE, dotted, keys_at, place_at
from core.errors import ConfigurationError
from tasks.environments import (
    environment_file,
    environment_names,
    environments_folder,
    load_environment,
    variable_prefix,
)

CHECKOUT = Path(__file__).resolve().parent.parent
SMALLEST = """
[store]
bucket = "backups"
[signing]
key = "env:KEY"
[databases.app]
host = "db.example.com"
name = "app"
user = "backup"
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write an environment file and return the environment's name."""
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))

    def write_file(text: str = SMALLEST, name: str = "staging") -> str:
        (tmp_path / f"{name}.toml").write_text(text)
        return name

    return write_file


def mistake_of(name: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_environment(name)
    assert caught.value.__cause__ is None or "pydantic" not in type(caught.value.__cause__).__module__
    return str(caught.value)


# --- what is there


@pytest.mark.parametrize("name", ["local", "staging", "production"])
def test_the_environments_of_the_checkout_are_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NIGHTSHIFT_ENVIRONMENTS", raising=False)
    assert environments_folder() == CHECKOUT / "deployments" / "environments"
    assert name in environment_names()
    assert load_environment(name).name == name


def test_a_file_that_is_missing_is_told_with_the_variable_that_led_there(
    write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write()
    assert "nightshift init production or correct NIGHTSHIFT_ENVIRONMENTS, which names this" in mistake_of("production")
    monkeypatch.delenv("NIGHTSHIFT_ENVIRONMENTS")
    assert "NIGHTSHIFT_ENVIRONMENTS" not in mistake_of("there-is-none")


def test_the_smallest_file_has_nine_lines_and_defaults_for_the_rest(write: Callable[..., str]) -> None:
    environment = load_environment(write())
    assert environment.timezone == "UTC"
    assert environment.prefix == "staging"
    assert environment.retention.days == 30
    assert environment.databases["app"].port == 5432
    assert environment.store.access_key_id is None


def test_an_environment_is_a_plain_record_that_compares_and_pickles(write: Callable[..., str]) -> None:
    name = write()
    environment = load_environment(name)
    assert type(environment) is Environment
    assert load_environment(name) == environment
    assert pickle.loads(pickle.dumps(environment)) == environment  # noqa: S301 - our own bytes


def test_names_are_the_files_of_the_folder(write: Callable[..., str], tmp_path: Path) -> None:
    for name in ("staging", "eu-production", "Not-A-Name"):
        write(name=name)
    (tmp_path / "notes.txt").write_text("no environment")
    assert environment_names() == ["eu-production", "staging"]


def test_a_missing_file_is_told_with_the_folder_and_what_is_there(write: Callable[..., str], tmp_path: Path) -> None:
    write()
    told = mistake_of("stagin")
    assert str(tmp_path / "stagin.toml") in told
    assert "environments in this folder: staging" in told
    assert "nightshift init stagin" in told


@pytest.mark.parametrize("name", ["../staging", "/etc/passwd", "a/b", "", "Staging", "staging.toml", "staging\n", "-a"])
def test_a_path_is_no_name(write: Callable[..., str], name: str) -> None:
    write()
    assert "is no environment's name" in mistake_of(name)


# --- variables


def test_a_variable_overrides_the_file(write: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    name = write(name="eu-staging")
    for variable, value in {
        "STORE__BUCKET": "other",
        "DATABASES__APP__PORT": "5433",
        "DATABASES__APP__EXCLUDE_SCHEMAS": '["auth", "storage"]',
        "DATABASES__APP__DIGEST_RULES": '[{"tables": "audit.*", "mode": "off"}]',
        "RETENTION__DAYS": "7",
        "TIMEZONE": "Europe/Berlin",
    }.items():
        monkeypatch.setenv(f"NIGHTSHIFT_EU_STAGING__{variable}", value)
    environment = load_environment(name)
    assert environment.store.bucket == "other"
    assert environment.databases["app"].port == 5433
    assert environment.databases["app"].host == "db.example.com"
    assert environment.databases["app"].exclude_schemas == ("auth", "storage")
    assert environment.databases["app"].digest_rules[0].mode == "off"
    assert environment.retention.days == 7
    assert environment.timezone == "Europe/Berlin"


def test_a_database_with_a_hyphen_is_written_with_an_underscore(
    write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write(SMALLEST.replace("databases.app", "databases.app-main"))
    monkeypatch.setenv("NIGHTSHIFT_STAGING__DATABASES__APP_MAIN__HOST", "elsewhere")
    assert load_environment(name).databases["app-main"].host == "elsewhere"


def test_an_empty_variable_takes_an_optional_value_away(
    write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write(SMALLEST.replace('bucket = "backups"', 'bucket = "backups"\nendpoint_url = "http://127.0.0.1:9000"'))
    assert load_environment(name).store.endpoint_url == "http://127.0.0.1:9000"
    monkeypatch.setenv("NIGHTSHIFT_STAGING__STORE__ENDPOINT_URL", "")
    monkeypatch.setenv("NIGHTSHIFT_STAGING__DATABASES__APP__PASSWORD", "")
    environment = load_environment(name)
    assert environment.store.endpoint_url is None
    assert environment.databases["app"].password is None


def test_another_environments_variables_do_not_count(
    write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write()
    monkeypatch.setenv("NIGHTSHIFT_STAGING_TWO__STORE__BUCKET", "two")
    monkeypatch.setenv("NIGHTSHIFT_STAGING_KEY", "a secret of the environment, not a key of its file")
    assert load_environment(name).store.bucket == "backups"
    assert variable_prefix("staging-two") == "NIGHTSHIFT_STAGING_TWO__"


def test_a_variable_that_overrides_nothing_is_a_mistake(
    write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write()
    monkeypatch.setenv("NIGHTSHIFT_STAGING__STORE__BUCKT", "a")
    monkeypatch.setenv("NIGHTSHIFT_STAGING__STOR__BUCKET", "b")
    monkeypatch.setenv("NIGHTSHIFT_STAGING__NAME", "c")
    monkeypatch.setenv("NIGHTSHIFT_STAGING__DATABASES__APP__EXCLUDE_SCHEMAS", "auth,storage")
    told = mistake_of(name)
    assert "NIGHTSHIFT_STAGING__STORE__BUCKT: there is no key store.buckt; did you mean bucket?" in told
    assert "NIGHTSHIFT_STAGING__STOR__BUCKET: there is no key stor.bucket; did you mean store?" in told
    assert "NIGHTSHIFT_STAGING__NAME" in told
    assert 'APP__EXCLUDE_SCHEMAS: a list or table is given as JSON, e.g. ["auth", "storage"]' in told


def test_a_mistake_in_a_variable_is_told_by_its_name(
    write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write()
    monkeypatch.setenv("NIGHTSHIFT_STAGING__DATABASES__APP__PORT", "tcp")
    told = mistake_of(name)
    assert "databases.app.port (from variable NIGHTSHIFT_STAGING__DATABASES__APP__PORT): found 'tcp'" in told


# --- mistakes


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('[store]\nbucket = "b"\nregoin = "x"', "store.regoin: unknown key; did you mean region?"),
        ('[store]\nbucket = "backups"\nzzz = "x"', "store.zzz: unknown key; allowed here: bucket, prefix, region"),
        ("[backup]\nparallel = 3", "backup: unknown key; did you mean backups?"),
        ('[store]\nbucket = "s3://backups/daily"', "the bucket's name only, without s3://"),
        (
            '[store]\nbucket = "backups"\nencryption = "aes"',
            "store.encryption: found 'aes', allowed is 'bucket-default', 'sse-s3' or 'sse-kms'",
        ),
        (
            '[store]\nbucket = "backups"\naccess_key_id = "env:A"',
            "store: access_key_id and secret_access_key go together",
        ),
        ('[store]\nbucket = "backups"\nkms_key_id = "k"', "store: kms_key_id goes with encryption"),
        (
            '[store]\nbucket = "backups"\nendpoint_url = "127.0.0.1:9000"',
            "store.endpoint_url: found '127.0.0.1:9000', an address begins with https://",
        ),
        ('timezone = "Europe/Berln"', "'Europe/Berln' is not an IANA time zone; did you mean Europe/Berlin?"),
        ('timezone = "nowhere at all"', "is not an IANA time zone; such as Europe/Berlin"),
        ("[retention]\ndays = 0", "retention.days: found 0, allowed is greater than or equal to 1"),
        ("[retention]\ndays = 2.5", "retention.days: found 2.5"),
        ("retention = 30", "retention: a table is needed"),
        ('[backups]\nparallel = "two"', "backups.parallel: found 'two'"),
        ('name = "other"', "name (taken from the file's name): unknown key"),
    ],
)
def test_a_mistake_is_told_with_key_finding_and_what_is_allowed(
    write: Callable[..., str], line: str, told: str
) -> None:
    table = line.split("\n", maxsplit=1)[0]
    text = SMALLEST.replace('[store]\nbucket = "backups"', line) if table == "[store]" else f"{line}\n{SMALLEST}"
    name = write(text)
    found = mistake_of(name)
    assert told in found
    assert "/staging.toml" in found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('host = "db.example.com"', ""), "databases.app.host: missing. Host name or address"),
        (('user = "backup"', 'user = "backup"\nport = 6543'), "transaction pooler's port"),
        (('user = "backup"', 'user = "backup"\nport = 70000'), "databases.app.port: found 70000"),
        (("databases.app", 'databases."App Main"'), "databases: 'App Main' is no name"),
        (("databases.app", "databases.evidence"), "choose another"),
        (('user = "backup"', 'user = "backup"\nexclude_schemas = "auth"'), 'a list is needed, such as ["auth"'),
        (
            ('user = "backup"', 'user = "backup"\n[[databases.app.digest_rules]]\ntables = "a.*"\nmode = "none"'),
            "databases.app.digest_rules[0].mode: found 'none', allowed is 'full', 'counts' or 'off'",
        ),
        (
            ('user = "backup"', 'user = "backup"\ninclude_schemas = ["a", "b"]\nexclude_schemas = ["b"]'),
            "databases.app: schemas both included and excluded: b",
        ),
        (('user = "backup"', "user = 5"), "databases.app.user: found 5, a text in quotes is needed"),
    ],
)
def test_a_mistake_in_a_database_is_told_with_its_path(
    write: Callable[..., str], change: tuple[str, str], told: str
) -> None:
    assert told in mistake_of(write(SMALLEST.replace(*change)))


SECRET = "hunter2-Tr0ub4dor"


@pytest.mark.parametrize(
    "change",
    [
        ('key = "env:KEY"', f'key = "{SECRET}"'),
        ('key = "env:KEY"', f'key = "vault:{SECRET}"'),
        ('key = "env:KEY"', f'key = "env:KEY"\nprevious_keys = ["{SECRET}"]'),
        ('key = "env:KEY"', f'key = "env:KEY"\nprevious_keys = "{SECRET}"'),
        ('key = "env:KEY"', f'key = ["{SECRET}"]'),
        ('user = "backup"', f'user = "backup"\npassword = "{SECRET}"'),
        ('user = "backup"', f'user = "backup"\npassword = {{ value = "{SECRET}" }}'),
        ('user = "backup"', f'user = "backup"\npasswort = "{SECRET}"'),
        ('host = "db.example.com"', f'host = "postgres://backup:{SECRET}@db.example.com/app"'),
        ('host = "db.example.com"', f'host = "host=db password={SECRET}"'),
        ('bucket = "backups"', f'bucket = "backups"\nendpoint_url = "http://me:{SECRET}@127.0.0.1"'),
        ('bucket = "backups"', f'bucket = "backups"\naccess_key_id = "{SECRET}"\nsecret_access_key = "{SECRET}"'),
        ("[store]", f'databases = "{SECRET}"\n[store]'),
    ],
)
def test_a_secret_that_was_pasted_into_the_file_is_refused_and_not_repeated(
    write: Callable[..., str], change: tuple[str, str]
) -> None:
    text = SMALLEST.replace(*change)
    if "databases = " in text:
        text = text.split("[databases.app]")[0]
    with pytest.raises(ConfigurationError) as caught:
        load_environment(write(text))
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__cause__)


def test_every_mistake_is_told_at_once_up_to_a_bound(write: Callable[..., str]) -> None:
    name = write(SMALLEST + "\n".join(f"unknown_{number} = 1" for number in range(12)))
    told = mistake_of(name)
    assert told.count("unknown key") == 8
    assert "and 4 more" in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[store]\nbucket = backups\n", "at line 2, column 10"),
        (b"[store\n", "at line 1, column 7"),
        (b'[store]\nbucket = "a"\nbucket = "b"\n', "at line 3"),
        (b'[store]\nbucket = "\xff"\n', "not UTF-8 text (byte 18)"),
    ],
)
def test_what_is_not_toml_is_told_with_line_and_column(
    write: Callable[..., str], tmp_path: Path, content: bytes, told: str
) -> None:
    name = write()
    (tmp_path / f"{name}.toml").write_bytes(content)
    assert told in mistake_of(name)


# --- key paths


def test_every_key_path_leads_to_its_field() -> None:
    for path, secret in {
        ("store", "bucket"): False,
        ("store", "access_key_id"): True,
        ("signing", "key"): True,
        ("signing", "previous_keys", 3): True,
        ("databases", "anything", "password"): True,
        ("databases", "anything", "digest_rules", 0, "mode"): False,
    }.items():
        place = place_at(path)
        assert place is not None, path
        assert place.is_secret is secret, path
    assert place_at(("store", "buckt")) is None
    assert place_at(("store", "bucket", "deeper")) is None
    assert keys_at(("databases",)) == ()
    assert "name" not in keys_at(())
    assert set(keys_at(())) == set(Environment.model_fields) - NOT_IN_THE_FILE
    assert dotted(("databases", "app", "digest_rules", 0, "mode")) == "databases.app.digest_rules[0].mode"


@given(st.text(max_size=60))
def test_no_text_as_a_name_leaves_the_folder(name: str) -> None:
    try:
        file = environment_file(name)
    except ConfigurationError:
        return
    assert file.parent == environments_folder()
    assert file.name == f"{name}.toml"
