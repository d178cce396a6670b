"""What runs are called: a list of them says what each did, and where."""

import re
from pathlib import Path
from typing import Any

import pytest

from core import run_names
from core.run_names import Parameters, name_before

DIGEST = f"sha256:{'8b95cd0d44de':0<64}"
RELEASE = {"commit": "3f2a91c" + "0" * 33, "image": "v1.4.0"}
ONE = {"release_id": "r-0123456789ab"}


@pytest.mark.parametrize(
    ("name", "given", "called"),
    [
        (run_names.nightly_backup, {}, "back up production"),
        (run_names.nightly_backup, {"databases": ["shop", "crm"]}, "back up production: shop, crm"),
        (run_names.app_state_backup, {}, "back up the application state of production"),
        (
            run_names.app_state_backup,
            {"drill": True, "dry_run": True},
            "back up the application state of production and rehearse its restore (dry run)",
        ),
        (run_names.dr_drill, {"databases": [], "read_from_copy": False}, "drill production"),
        (run_names.dr_drill, {"databases": ["shop"], "read_from_copy": True}, "drill production: shop from its copy"),
        (run_names.restore, {"database": "shop"}, "restore production/shop"),
        (run_names.restore, {"database": "shop", "swap_live": True}, "restore and swap production/shop"),
        (run_names.restore, {"database": "shop", "dry_run": True}, "restore production/shop (dry run)"),
        (run_names.undo_swap, {"restore_id": "1f2e3d4c"}, "undo swap 1f2e3d4c in production"),
        (run_names.release, RELEASE, "release production 3f2a91c → v1.4.0"),
        (
            run_names.release,
            {**RELEASE, "image": DIGEST, "dry_run": True},
            "release production 3f2a91c → sha256:8b95cd0d44de… (dry run)",
        ),
        (run_names.rollback, {}, "roll production back"),
        (run_names.rollback, ONE, "roll production back from r-0123456789ab"),
        (run_names.release_recovery, {}, "recover releases of production"),
        (run_names.release_recovery, ONE, "recover r-0123456789ab of production"),
        (run_names.release_recovery, {**ONE, "decision": "back"}, "bring r-0123456789ab of production back"),
        (run_names.post_deploy_watch, {"release_id": ""}, "watch all releases of production"),
        (run_names.post_deploy_watch, ONE, "watch r-0123456789ab in production"),
        (run_names.watch_sign_off, ONE, "sign off r-0123456789ab in production"),
    ],
)
def test_a_run_is_called_by_what_it_does_and_where(name: Any, given: Parameters, called: str) -> None:
    assert name({"environment": "production", **given}) == called


def test_what_somebody_typed_makes_no_name_of_several_lines_or_without_an_end() -> None:
    called = run_names.restore({"environment": "production", "database": "a\nb" + "x" * 1000})
    assert called.startswith("restore production/a bxxx")
    assert len(called) == 150


@pytest.mark.parametrize("file", sorted(Path("flows").glob("*.py")), ids=lambda one: one.stem)
def test_a_run_that_waits_has_the_name_that_it_has_when_it_begins(file: Path) -> None:
    for flow, name in re.findall(
        r'^@flow\(name="([a-z-]+)", flow_run_name=named\(run_names\.(\w+)\)', file.read_text(), re.MULTILINE
    ):
        given = {**RELEASE, **ONE, "database": "shop", "restore_id": "1f2e3d4c"}
        called = getattr(run_names, name)({"environment": "production", **given})
        assert name_before(flow, "production", given) == called


def test_a_run_whose_parameters_do_not_tell_has_no_name_yet() -> None:
    assert name_before("release", "production", {"image": "v1.4.0"}) is None
    assert name_before("release", "production", {**RELEASE, "commit": None}) is None
    assert name_before("nightly-backup", "production", {}) == "back up production"
    assert name_before("somebody-elses", "production", {}) is None
