"""The pages' commands of releases as a reader types them, in a fresh checkout: release, rollback, front end, adopting, watch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fix_counts import plain_day
from tests.fix_reader_home import Home, image
from tests.fix_vercel import NEW, OLD, TOKEN, PublicAddress, Vercel
from tests.fix_web_script import Asked, Reply
from tests.recorded_days import write_day

pytestmark = [pytest.mark.services, pytest.mark.platform, pytest.mark.timeout(1500), pytest.mark.xdist_group("reader")]

# What stands for the pages' tag and commit: a version by its digest, since no registry is asked.
V2, V3, V4, V5, V6 = (
    {"1.8.0": image(f"v{number}").rpartition("@")[2], "0123abc": str(number) * 40} for number in (2, 3, 4, 5, 6)
)


def releasing(home: Home, **more: object) -> None:
    """Give the environment its table [release], as docs/release.md has it: without a registry, approval and waiting."""
    workloads = [
        {"name": "hello"},
        {"name": "worker", "role": "worker"},
        {"name": "nightly", "kind": "CronJob", "role": "worker"},
    ]
    release = {
        "namespace": "shop",
        "control_namespace": "nightshift",
        "repository": "registry.test/hello",
        "registry": {"kind": "none"},
        "approval": False,
        "settle_seconds": 0,
        "workloads": workloads,
    }
    home.add(release={**release, **more})


def deployed(home: Home, name: str = "hello") -> str:
    """The image of a Deployment."""
    found = home.kubernetes.read("apps/v1", "deployments", "shop", name)
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


def set_image(home: Home, name: str, to: str) -> None:
    """As `kubectl set image` by somebody."""
    (container,) = home.kubernetes.read("apps/v1", "deployments", "shop", name)["spec"]["template"]["spec"][
        "containers"
    ]
    patch = {"spec": {"template": {"spec": {"containers": [{**container, "image": to}]}}}}
    home.kubernetes.merge("apps/v1", "deployments", "shop", name, patch, manager="kubectl-set")


def newest(home: Home) -> str:
    """The id of the newest release."""
    return f"r-{home.runs('release')[0].replace('-', '')[:12]}"


@pytest.fixture(scope="module", autouse=True)
def put_back(home: Home) -> Iterator[None]:
    """No release goes on, and no sweep, where other pages are read."""
    yield
    delete = "; ".join(
        f"prefect --no-prompt deployment delete {flow}/mine" for flow in ("release", "rollback", "release-recovery")
    )
    home.reader.shell(f"(. .nightshift/server/client.env; {delete})")
    home.drop("release")


@pytest.fixture
def frontend(home: Home) -> Iterator[tuple[Vercel, dict[str, object]]]:
    """Vercel with one project and a public address, and the table [release.frontend]; its token lies in a file, where the worker finds it."""
    token = home.reader.root / "vercel-token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    vercel = Vercel()
    public = PublicAddress(vercel)
    yield vercel, {**vercel.settings(public.web.address), "token": f"file:{token}"}
    public.web.close()
    vercel.web.close()


def test_release_and_rollback(home: Home) -> None:
    reader = home.reader
    releasing(home)
    line = "nightshift release production 1.8.0 --commit 0123abc"
    reader.types("release.md", f"{line} --dry-run", stands_for=V2)
    assert deployed(home) == image("v1")
    reader.types("release.md", line, stands_for=V2)
    assert deployed(home) == deployed(home, "worker") == image("v2")
    assert newest(home) in reader.types("release.md", "nightshift releases production")
    reader.types("rollback.md", "nightshift releases production")
    reader.types("rollback.md", 'nightshift rollback production --reason "errors since 02:14"')
    assert deployed(home) == deployed(home, "worker") == image("v1")
    reader.types("rollback.md", "nightshift release-recovery production")


def test_watch(home: Home) -> None:
    reader, page = home.reader, "watch.md"
    releasing(home)
    reader.types("release.md", "nightshift release production 1.8.0 --commit 0123abc", stands_for=V3)
    day = write_day(reader.root, errors=plain_day())
    said = reader.types(page, "nightshift judge COUNTS.csv --path", stands_for={"COUNTS.csv": str(day)})
    assert said.startswith("healthy\n")
    said = reader.types(page, "nightshift watches <environment>", stands_for={"<environment>": "mine"})
    assert "no watch goes on" in said
    line = 'nightshift rollback <environment> --release <release> --reason "…"'
    reader.types(page, line, stands_for={"<environment>": "mine", "<release>": newest(home)})
    assert deployed(home) == image("v1")


def test_frontend(home: Home, frontend: tuple[Vercel, dict[str, object]]) -> None:
    reader, page = home.reader, "frontend.md"
    vercel, settings = frontend
    releasing(home, frontend=settings)
    given = {**V4, "dpl_9fXb3…": NEW}
    line = "nightshift release production 1.8.0 --commit 0123abc --frontend dpl_9fXb3…"
    reader.types(page, f"{line} --dry-run", stands_for=given)
    assert vercel.live == {OLD}
    reader.types(page, line, stands_for=given)
    assert (vercel.live, deployed(home)) == ({NEW}, image("v4"))


def test_adopting_and_what_is_held(home: Home, frontend: tuple[Vercel, dict[str, object]]) -> None:
    reader, page = home.reader, "adopting.md"
    traffic = {"kind": "service", "name": "hello", "soak_seconds": 0}
    releasing(home, traffic=traffic, drain_seconds=0)
    line = "nightshift release production 1.8.0 --commit 0123abc --strategy blue-green --adopt"
    assert "hello-blue" in reader.types(page, f"{line} --dry-run", stands_for=V5)
    assert ("apps/v1", "deployments", "shop", "hello-blue") not in home.kubernetes.objects
    reader.types(page, line, stands_for=V5)
    assert deployed(home, "hello-blue") == image("v5")

    # The next one meets a front end that refuses, and meanwhile somebody changed the side that it would go back to: a person decides.
    vercel, settings = frontend
    answer = vercel.web.reply

    def refuse(asked: Asked) -> Reply:
        if asked.method == "GET":
            return answer(asked)
        set_image(home, "hello-blue", image("v9"))
        return Reply({"error": {"message": "no"}}, 401)

    vercel.web.reply = refuse
    releasing(home, strategy="blue-green", traffic=traffic, drain_seconds=0, frontend=settings)
    line = "nightshift release production 1.8.0 --commit 0123abc --frontend dpl_9fXb3…"
    said = reader.types("frontend.md", line, code=1, stands_for={**V6, "dpl_9fXb3…": NEW})
    assert "HELD" in said, said
    assert deployed(home, "hello-green") == image("v6")
    vercel.web.reply = answer
    assert "HELD" in reader.types("rollback.md", "nightshift release-recovery production")
    line = 'nightshift release-recovery production r-0123456789ab --decision back --reason "…"'
    reader.types("rollback.md", line, stands_for={"r-0123456789ab": newest(home)})
    service = home.kubernetes.read("v1", "services", "shop", "hello")
    assert "blue" in str(service["spec"]["selector"])
