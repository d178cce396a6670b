"""Which test shows each claim of the tables "When something leaks" of docs/security.md and docs/webhook.md. tests/test_threat_model.py holds the two together.

A claim is a part of a cell between semicolons, word for word: whoever changes the page says anew what shows it.
"""

RECEIVER = "tests/test_threats_receiver.py::"
SECRET_CHOOSES_NOTHING = (
    f"{RECEIVER}test_who_has_the_webhook_secret_starts_what_the_rules_allow_and_chooses_nothing_else"
)
ONE_DELIVERY = f"{RECEIVER}test_who_has_one_signed_delivery_sends_it_again_and_changes_nothing_in_it"
JOBS_TOKEN = f"{RECEIVER}test_who_has_a_jobs_token_uses_it_once_and_for_what_it_was_made"
OTHER_SECRETS = f"{RECEIVER}test_no_other_secret_opens_the_receiver"
PREFECT = "tests/test_threats_prefect.py::"
NOTHING_OPEN = f"{PREFECT}test_without_the_auth_string_no_route_of_the_api_and_no_websocket_is_open"
STORE = "tests/test_threats_store.py::"
FORGED = (
    "tests/test_catalogue.py::test_a_manifest_with_a_strange_or_no_signature_or_a_change_is_refused",
    "tests/test_catalogue.py::test_a_manifest_copied_to_another_place_is_refused_though_well_signed",
    "tests/test_catalogue.py::test_a_signed_state_copied_to_another_backup_or_another_states_place_is_refused",
    "tests/test_keeping_commands.py::test_a_forged_report_is_not_shown",
    "tests/test_bucket_damage.py::test_a_forged_proof_proves_nothing",
)
DATABASE = "tests/test_threats_database.py::"
RBAC = "tests/cluster/test_rbac.py::"
UNSHOWN = "not shown by a test: "

# (who has, can or cannot) → claim → tests; or one text that begins with UNSHOWN and says why there is none.
PROOFS: dict[tuple[str, str], dict[str, tuple[str, ...] | str]] = {
    ("a way to the Prefect server, and no auth string", "can"): {
        "see that it runs (`/api/health`, `/api/ready`) and load the UI's pages, which hold nothing of yours": (
            NOTHING_OPEN,
        ),
        "try strings as often as they like: Prefect holds nobody up": (NOTHING_OPEN,),
    },
    ("a way to the Prefect server, and no auth string", "cannot"): {
        "ask anything else of the API, by HTTP or by a websocket": (NOTHING_OPEN,),
    },
    ("the Prefect auth string", "can"): {
        "all that a person at the UI can: approve, start a restore, read Secret blocks. "
        "And **run any command on the workers**: a deployment's or a run's job variables name one, "
        "and Prefect lets whoever signs in write them": (
            f"{PREFECT}test_who_has_the_auth_string_runs_any_command_on_a_worker_and_reads_what_it_knows",
            f"{PREFECT}test_who_has_the_auth_string_reads_secret_blocks",
            "tests/test_approval.py::test_a_swap_waits_without_a_process_and_goes_on_in_a_new_one_only_for_the_right_name",
        ),
    },
    ("the Prefect auth string", "cannot"): {
        "forge what is signed without also reading the key on a worker": (
            *FORGED,
            "tests/test_process_list.py::test_no_secret_is_in_a_process_list_or_in_anything_that_is_kept",
        )
    },
    ("the bucket's keys, to write", "can"): {
        "delete and overwrite what no Object Lock holds": (
            f"{STORE}test_only_the_role_of_backups_overwrites_and_deletes_and_versioning_brings_it_back",
            "tests/test_prune.py::test_objects_under_a_real_lock_are_reported_and_stay",
        ),
        "write junk, which is told": (
            "tests/test_bucket_damage.py::test_damage_is_named_in_one_line_and_nothing_is_left",
            "tests/test_keeping_commands.py::test_a_planted_backup_neither_counts_nor_goes_unseen",
        ),
    },
    ("the bucket's keys, to write", "cannot"): {
        "make a backup, a state or a report that is taken for ours: each is signed, and bound to its environment, database and name": FORGED,
        "with the policies of `deployments/aws/`, delete evidence, a version, or anything outside the prefix": (
            f"{STORE}test_no_role_touches_evidence_another_prefix_a_version_or_the_bucket",
        ),
    },
    ("the bucket's keys, to read", "can"): {
        "**read all the data of all databases**: dumps are not encrypted by nightshift": (
            f"{STORE}test_every_role_reads_all_that_is_under_the_prefix",
        ),
        "`store.encryption` has S3 do it, which does not help against whoever may read through S3": UNSHOWN
        + "it is S3's own behaviour",
    },
    ("the bucket's keys, to read", "cannot"): {
        "read the databases' passwords (they are in no backup unless asked for)": (
            "tests/test_pg_commands.py::test_globals_have_passwords_only_by_option",
        )
    },
    ("the signing key", "can"): {
        "together with the bucket's keys, forge backups and proofs": (
            "tests/test_catalogue.py::test_a_manifest_is_read_back_as_it_was_committed",
        )
    },
    ("the signing key", "cannot"): {
        "alone: nothing": (f"{STORE}test_without_keys_of_the_bucket_nothing_is_read", OTHER_SECRETS),
    },
    ("a database's backup role", "can"): {
        "read all of that database (`pg_read_all_data`, `BYPASSRLS`), "
        "and with it the password hashes of all roles of the server (`pg_authid`)": (
            f"{DATABASE}test_the_backup_role_reads_everything_and_changes_nothing_that_is_there",
        ),
        "what the server lets everybody do: fill its disk with temporary tables and large objects, "
        "hold up changes of definitions, call functions that `PUBLIC` may call": (
            f"{DATABASE}test_the_backup_role_can_do_what_the_server_lets_everybody_do",
        ),
    },
    ("a database's backup role", "cannot"): {
        "change what is there: rows, sequences, definitions, roles, settings": (
            f"{DATABASE}test_the_backup_role_reads_everything_and_changes_nothing_that_is_there",
        )
    },
    ("a restore server's role", "can"): {
        "make and drop databases there, hence swap": (
            "tests/test_swap.py::test_an_owner_with_createdb_may_swap_and_others_are_told_what_they_lack",
        )
    },
    ("the cluster account of releases", "can"): {
        "change the objects of the namespaces that it is bound in, and run any image there by that": (
            f"{RBAC}test_the_account_may_do_all_that_releases_need",
        ),
        "read the Secrets that the environment names": (f"{RBAC}test_the_api_server_holds_the_account_to_it",),
    },
    ("the cluster account of releases", "cannot"): {
        "anything in another namespace": (f"{RBAC}test_the_account_may_nothing_beside_it",),
        "delete workloads, `exec` into Pods, read other Secrets (deployments/kubernetes/rbac.yaml": (
            f"{RBAC}test_the_account_may_nothing_beside_it",
        ),
        "tests/cluster/test_rbac.py asks a real API server)": (f"{RBAC}test_the_api_server_holds_the_account_to_it",),
    },
    ("the cluster account of drills on scratch Pods", "can"): {
        "make Pods in their namespace, and by that read its Secrets and act as its accounts": (
            "tests/cluster/test_pod_drill.py::test_a_backup_is_proven_on_a_pod_by_the_shipped_role_and_nothing_is_left_of_it",
        )
    },
    ("the cluster account of drills on scratch Pods", "cannot"): {
        "anything in another namespace": (
            "tests/cluster/test_pod_drill.py::test_the_account_may_that_and_nothing_else_anywhere",
        )
    },
    ("a worker's machine or Pod", "can"): {
        "everything above that its environments use": UNSHOWN + "it is all of the other rows together",
    },
    ("a registry's push right", "can"): {
        "put another image behind a tag": (
            "tests/cluster/test_release.py::test_a_tag_that_moves_after_the_checks_changes_nothing_and_the_digest_of_then_is_rolled_out",
        )
    },
    ("a registry's push right", "cannot"): {
        "change what was approved: plan and rollout are by digest": (
            "tests/test_registry.py::test_a_tag_is_the_digest_that_it_has_now_and_stays_that_when_it_moves",
            "tests/cluster/test_release.py::test_a_tag_that_moves_after_the_checks_changes_nothing_and_the_digest_of_then_is_rolled_out",
        )
    },
    ("a token of GitHub's or Vercel's that an environment names", "can"): {
        "there what it was made for": UNSHOWN + "it is theirs to say",
    },
    ("a token of GitHub's or Vercel's that an environment names", "cannot"): {
        "start anything here": (OTHER_SECRETS,),
    },
    ("a webhook secret", "can"): {
        "make up events: start what the rules of that environment allow, with any commit and tag that fits their fields. Change it (above)": (
            SECRET_CHOOSES_NOTHING,
        ),
        "look in the audit log for deliveries that GitHub does not list": (
            "tests/test_webhook_receiver.py::test_what_is_accepted_starts_a_run_and_stands_in_the_audit_log",
        ),
    },
    ("a webhook secret", "cannot"): {
        "choose another environment, flow or parameter": (SECRET_CHOOSES_NOTHING,),
        "choose an image of another repository": (SECRET_CHOOSES_NOTHING,),
        "pass an approval or the checklist": (
            SECRET_CHOOSES_NOTHING,
            "tests/test_release_approval.py::test_a_state_that_somebody_forces_does_not_pass_an_unanswered_approval",
        ),
    },
    ("one signed delivery", "can"): {"send it again within `max_age_minutes`: it is the same run": (ONE_DELIVERY,)},
    ("one signed delivery", "cannot"): {
        "change anything in it": (ONE_DELIVERY,),
        "make it another event": (ONE_DELIVERY,),
    },
    ("a job's token", "can"): {"use it once, within minutes, unless the job did": (JOBS_TOKEN,)},
    ("a job's token", "cannot"): {
        "use it for another audience, ref, workflow or environment": (JOBS_TOKEN,),
    },
    ("the token of `[webhook.github]`", "can"): {"write deployment statuses": UNSHOWN + "it is GitHub's to say"},
    ("the token of `[webhook.github]`", "cannot"): {"start anything here": (OTHER_SECRETS,)},
}
