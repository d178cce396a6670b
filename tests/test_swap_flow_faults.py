"""A restore with a swap, as a flow, whose swap cannot be made: the run says so, and the live database serves as before."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from flows import restore as restore_flow
from tests.fix_nightly import Night, server_settings

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("prefect")]

TARGET = "copy_beside_a_session"


def test_a_session_that_will_not_leave_fails_the_run_and_live_one_and_copy_stay_as_they_are(
    night: Night,
    fresh_role: Callable[..., tuple[str, str]],
    restored_names: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restored_names(night.server, TARGET)
    live = night.names["first"]
    owner, password = fresh_role(night.server, "CREATEDB")
    night.server.execute(live, f"ALTER DATABASE {live} OWNER TO {owner}", f"ALTER TABLE account OWNER TO {owner}")
    login = night.server.database("postgres", user=owner, password=password)
    night.settings["servers"]["primary"] = {**server_settings(night.server), "user": owner, "password": login.password}
    night.settings["restore"]["drain_seconds"] = 1
    night.run(databases=["first"])
    night.server.execute(live, "DELETE FROM account WHERE id > 10")
    answer = SimpleNamespace(database_name=live, approver="on call", reason="rows were deleted")
    monkeypatch.setattr(restore_flow, "ask_for_approval", lambda *_arguments, **_named: answer)
    with night.server.connect(live) as stubborn:
        stubborn.execute("SET application_name = 'cron of the platform'")
        state = night.restore(backup="newest-decoded", target=TARGET, swap_live=True)
        assert state.is_failed()
        assert f"pid {stubborn.info.backend_pid} (user postgres, application cron of the platform" in str(state.message)
        assert "which our role may not end" in str(state.message)
        assert "The live database serves as before" in str(state.message)
        assert stubborn.execute("SELECT count(*) FROM account").fetchone() == (10,)
    # Whoever connects anew gets there too; the copy is whole and open, under its own name.
    for name, rows in ((live, 10), (TARGET, 500)):
        with night.server.connect(name) as session:
            assert session.execute("SELECT count(*) FROM account").fetchone() == (rows,)
            comment = session.execute(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
            ).fetchone()
        assert comment == (None,)
    failed = [step.name for step in night.report.steps if step.state == "failed"]
    assert failed == ["swap"]
    night.server.execute(live, f"ALTER DATABASE {live} OWNER TO postgres")
