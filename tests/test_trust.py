"""Each row of the manual's tables of trust, each promise, and each set-up names the tests that play its adversary."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest
from doubles.paths import ROOT, TESTS

MANUAL = ROOT / "backupd" / "manual"
MACHINE = "laws/test_adversary_machine.py::TestAdversary"
"""Everything that a thief of a node can do, between honest work."""
ROWS = {
    # ---- on a store
    "names, sizes and times of objects": (
        "integration/stores/test_sftp_hostile.py::test_lies_in_a_listing",
        "integration/stores/test_sftp_hostile.py::test_listing_without_end",
        "integration/stores/test_sftp_hostile.py::test_a_folder_whose_names_never_end_is_named",
        "integration/stores/test_sftp_hostile.py::test_a_tree_that_never_ends_is_named",
        "integration/stores/test_sftp_hostile.py::test_long_names_count_for_more",
        "integration/stores/test_odd_things.py::test_odd_things_end_nothing",
        "integration/stores/test_sftp_hostile.py::test_lies_about_sizes",
        "integration/keeper/test_moved_objects.py::test_what_was_moved_is_not_cleared_away",
        "integration/keeper/test_moved_objects.py::test_what_was_moved_among_what_is_handed_in_is_not_removed",
        "integration/keeper/test_moved_objects.py::test_a_document_that_the_ledger_lists_is_not_cleared_away",
        "integration/keeper/test_moved_objects.py::test_what_is_moved_there_after_the_look_is_not_removed",
        "integration/keeper/test_moved_objects.py::test_what_is_moved_there_while_a_mark_or_a_lease_is_held_is_copied_aside",
        "integration/keeper/test_moved_objects.py::test_what_holds_a_generation_up_hides_nothing_that_is_missing_there",
        "integration/keeper/test_expire.py::test_a_clock_that_differs_removes_nothing",
        "integration/keeper/test_ingest.py::test_a_clock_that_cannot_be_trusted_takes_nothing",
        "integration/tenants/test_purge_faults.py::test_a_wrong_clock_does_not_begin_a_purge",
    ),
    "`repository.json`": (
        "unit/operations/test_init.py::test_a_repository_of_a_signer_we_do_not_trust_is_foreign",
        "unit/operations/test_store_profile.py::test_a_document_of_nobody_we_trust_is_not_put",
        "integration/stores/test_sub_accounts.py::test_what_a_stranger_founds_is_not_believed",
        "integration/backup/test_backup_generations.py::test_another_repository_behind_the_same_configuration_starts_anew",
        "integration/restore/test_recover.py::test_signers_are_told_or_required",
        "integration/restore/test_recover.py::test_a_signer_that_anybody_can_be_is_not_believed",
    ),
    "records of snapshots": (
        "unit/repository/test_repository.py::test_a_record_must_have_the_hash_of_its_name",
        "unit/repository/test_repository.py::test_a_record_in_another_generation_is_refused",
        "unit/repository/test_repository.py::test_a_record_of_another_repository_is_refused",
        "integration/keeper/test_ingest_packs.py::test_a_record_that_names_what_cannot_be_is_refused",
        "integration/keeper/test_ingest.py::test_what_expired_or_was_purged_does_not_come_back",
        "integration/ledger/test_ledger_obeyed.py::test_a_ledger_behind_the_snapshot_stops_it",
        "integration/ledger/test_verify.py::test_a_removed_record_breaks_the_chain",
        "integration/tenants/test_holds.py::test_a_node_cannot_say_what_a_hold_keeps",
        "integration/keeper/test_retention_liars.py::test_records_dated_back_drive_nothing_out",
        "integration/keeper/test_retention_liars.py::test_records_dated_ahead_drive_nothing_out_when_their_time_has_come",
        "integration/keeper/test_retention_liars.py::test_records_that_lie_about_no_time_drive_nothing_out",
        "integration/keeper/test_retention_liars.py::test_a_false_record_is_removed_and_missed_by_nobody",
        "integration/keeper/test_moved_objects.py::test_what_a_false_record_needs_is_named_with_the_record_and_the_way_out",
        "integration/keeper/test_retention_liars.py::test_ranges_without_end_are_named_before_memory_is_full",
        "integration/keeper/test_expire_junk.py::test_a_record_nobody_can_believe_goes_when_every_snapshot_of_its_time_is_gone",
        MACHINE,
    ),
    "keyrings": (
        "integration/keeper/test_ingest_packs.py::test_a_keyring_with_another_pseudonym_than_that_of_its_tags_is_refused",
        "integration/tenants/test_purge_packs.py::test_a_forged_listing_is_told_and_never_acted_on",
        "integration/tenants/test_purge_packs.py::test_a_keyring_nobody_can_believe_stops_no_shredding",
        "integration/tenants/test_locate_packs.py::test_a_forged_listing_is_no_sighting",
        "integration/stores/test_replication.py::test_a_forged_listing_keeps_back_who_needs_it",
        "integration/ledger/test_verify.py::test_a_forged_listing_is_named",
        "integration/ledger/test_verify.py::test_a_key_line_removed_without_a_ledger_is_named",
        "integration/keys/test_rekey.py::test_a_keyring_that_was_sealed_to_a_stranger_stops_the_keeper",
        "unit/seal/test_keyring.py::test_lines_that_nobody_signed_take_no_memory",
        "integration/keeper/test_expire_junk.py::test_what_nobody_can_believe_and_nothing_names_holds_nothing_up",
        "integration/restore/test_recover_manifests.py::test_keyrings_agree_on_a_name",
        MACHINE,
    ),
    "packs": (
        "integration/restore/test_restore_faults.py::test_every_damaged_object_stops_the_restore",
        "integration/restore/test_recover.py::test_a_damaged_pack_stops_it_and_is_named",
        "integration/ledger/test_verify.py::test_a_changed_object_is_named",
        "integration/ledger/test_verify.py::test_swapped_packs_are_named",
        "integration/ledger/test_verify.py::test_a_header_that_lists_a_section_under_another_key_is_named",
        "integration/keeper/test_ingest_packs.py::test_a_pack_with_a_section_of_another_hash_is_refused",
        "integration/keeper/test_ingest_packs.py::test_a_pack_with_a_section_under_another_place_is_refused",
        "integration/keeper/test_pack_rewrite.py::test_a_store_that_copies_wrongly_is_noticed",
        "integration/keeper/test_expire_junk.py::test_a_generation_of_junk_alone_goes",
        MACHINE,
    ),
    "a pack's map of what is there": (
        "integration/ledger/test_verify.py::test_a_map_that_hides_a_section_is_named",
        "integration/ledger/test_verify.py::test_a_section_taken_out_without_a_ledger_is_named",
        "integration/tenants/test_purge_packs.py::test_a_map_in_a_snapshot_alone_proves_no_absence",
        "integration/keeper/test_pack_rewrite.py::test_a_map_alone_proves_no_absence",
        "integration/keeper/test_expire.py::test_a_section_that_nothing_explains_keeps_its_generation",
    ),
    "the ledger": (
        "laws/test_ledger_laws.py::test_an_entry_that_is_missing_moved_or_altered_is_found",
        "laws/test_ledger_laws.py::test_a_ledger_cut_off_is_found_by_any_witness",
        "integration/ledger/test_verify_ledger.py::test_a_broken_ledger_is_damage_where_this_machine_knows_more",
        "integration/ledger/test_verify_ledger.py::test_a_ledger_of_a_keeper_that_nobody_here_trusts_is_not_taken_for_none",
        "integration/ledger/test_verify_ledger.py::test_what_a_writer_signs_is_no_entry_where_the_repository_names_keepers",
        "integration/restore/test_recover_ledger.py::test_another_keeper_is_not_believed",
        "integration/ledger/test_retired_keepers.py::test_what_it_signs_later_makes_nobody_remove_anything",
        "integration/ledger/test_retired_keepers.py::test_readers_leave_it_out",
        "contract/test_handoff_store.py::test_what_keepers_alone_write_is_looked_for_in_its_place_only",
        MACHINE,
    ),
    "reports, attestations": (
        "laws/test_report_laws.py::test_what_is_changed_is_noticed_by_what_follows",
        "unit/operations/test_reports.py::test_a_performer_signs_for_itself",
        "integration/drill/test_report_commands.py::test_damage_on_a_store_is_told_everywhere",
        "integration/tenants/test_attestation.py::test_one_byte_changed_is_found",
        "integration/tenants/test_attestation.py::test_a_ledger_without_its_events_is_found",
        MACHINE,
    ),
    "marks": (
        "integration/keeper/test_expire.py::test_a_mark_nobody_removed_blocks_for_a_day",
        "integration/keeper/test_expire.py::test_the_mark_of_a_run_that_ended_does_not_block",
        "integration/keeper/test_expire_junk.py::test_a_mark_dated_ahead_blocks_nothing",
        "integration/keeper/test_moved_objects.py::test_an_old_mark_that_is_a_pack_is_copied_aside",
        "integration/keeper/test_pack_rewrite.py::test_who_took_too_long_for_the_mark_writes_nothing",
        "integration/backup/test_long_backups.py::test_a_run_that_keepers_take_for_killed_gets_no_record",
        MACHINE,
    ),
    "leases": (
        "contract/test_lease.py::test_what_is_no_lease_holds_nobody_up",
        "contract/test_lease.py::test_what_cannot_be_copied_on_a_full_store_is_passed_over",
        "integration/keeper/test_moved_objects.py::test_what_stands_where_keepers_clear_is_copied_aside",
        "integration/ledger/test_retired_keepers.py::test_its_leases_hold_nobody_up",
        MACHINE,
    ),
    "what a node hands in (`incoming/`)": (
        "integration/keeper/test_ingest.py::test_nothing_is_taken_that_a_node_may_not_add",
        "integration/keeper/test_ingest.py::test_what_a_node_does_later_harms_nothing_that_was_taken",
        "integration/keeper/test_ingest.py::test_what_waited_too_long_is_refused_and_goes",
        "integration/keeper/test_ingest_packs.py::test_who_dates_a_file_back_in_a_nodes_own_folder_drives_nothing_out",
        "integration/stores/test_odd_things.py::test_odd_things_end_nothing",
        MACHINE,
        "integration/stores/test_sub_accounts.py::test_a_thief_of_the_nodes_key_changes_nothing_of_the_keepers",
    ),
    "`recover`, `RECOVER.md`": (
        "integration/ledger/test_verify.py::test_a_help_file_that_is_not_what_was_put_is_named",
        "integration/ledger/test_verify.py::test_a_help_file_of_another_version_is_named",
        "integration/keeper/test_keeper_commands.py::test_a_keeper_that_joined_after_init_is_reported",
        "integration/keeper/test_ingest.py::test_a_repository_with_the_hash_of_another_recover_is_not_made",
        "unit/operations/test_store_profile.py::test_a_document_of_another_version_is_not_put",
    ),
    "the store's own snapshots": (
        "integration/tenants/test_attestation.py::test_a_snapshot_nobody_can_look_into_stands_in_the_way",
        "integration/tenants/test_purge.py::test_the_stores_own_snapshots_are_waited_out",
        "integration/tenants/test_purge_packs.py::test_a_pack_in_a_snapshot_that_cannot_be_read_proves_nothing",
        "contract/test_server_snapshots.py::test_links_in_a_snapshot",
        "unit/planning/test_deadlines.py::test_what_is_observed_is_held_against_what_is_declared",
    ),
    "the SSH server itself": (
        "integration/stores/test_sftp_hostile.py::test_wrong_host_key",
        "integration/stores/test_sftp_hostile.py::test_no_pinned_key_accepts_none",
        "integration/stores/test_sftp_hostile.py::test_no_write_is_lost_silently",
        "integration/stores/test_sftp_hostile.py::test_lies_in_a_read",
        "integration/stores/test_sftp_replace.py::test_granted_and_not_done_is_an_error",
    ),
    # ---- on a database's server
    "its clock": ("integration/backup/test_backup_hostile.py::test_a_server_with_another_time_is_refused",),
    "who backs the database up now: an advisory lock": (
        "integration/postgres/test_source.py::test_who_takes_the_lock_and_makes_no_backup_is_found_out",
    ),
    "rows": (
        "integration/postgres/test_tenant_identity.py::test_listed_types_are_equal_exactly_when_their_texts_are",
        "integration/postgres/test_tenant_identity.py::test_a_cast_of_the_application_does_not_say_whose_rows_they_are",
        "integration/postgres/test_tenant_identity.py::test_a_backup_is_refused_and_says_why",
    ),
    "foreign keys on the way to a tenant": (
        "integration/backup/test_backup_hostile.py::test_the_cast_of_a_tables_owner_is_not_run",
    ),
    "sums of rows on the way to a tenant, where only what changed is read": (
        "integration/postgres/test_tenant_routes.py::test_the_secret_numbers_of_sums_stand_in_no_statement",
        "integration/incremental/test_unread.py::test_an_audit_reads_everything_and_a_difference_ends_skipping",
    ),
    "the session that reads rows": (
        "integration/backup/test_backup_hostile.py::test_settings_that_change_while_rows_are_read_end_the_run",
    ),
    "definitions: functions, checks, views, types": (
        "integration/drill/test_drill_hostile.py::test_an_owners_code_reads_no_secret_in_a_drill",
        "integration/daemon/test_units.py::test_a_server_of_the_drills_unit_sees_nothing_of_it",
        "integration/restore/test_restore_hostile.py::test_code_of_an_owner_gets_no_superusers_rights_by_the_role_made_for_it",
        "integration/restore/test_restore_hostile.py::test_what_needs_a_superuser_is_named_and_is_what_the_role_is_refused",
        "integration/restore/test_restore_files.py::test_rows_in_a_script_hold_no_commands",
        "integration/restore/test_recover.py::test_rows_in_a_script_hold_no_commands",
    ),
    "checks, indexes, domains of live tables, before a restore in place": (
        "integration/restore/test_inplace_hostile.py::test_a_look_runs_no_code_of_an_owner",
        "integration/restore/test_inplace_hostile.py::test_what_was_not_tried_is_decided_by_the_write",
    ),
    "the lifecycle query's answers": (
        "integration/postgres/test_tenant_identity.py::test_the_lifecycle_query_runs_no_code_that_it_does_not_name",
        "integration/postgres/test_tenant_identity.py::test_the_lifecycle_query_names_tenants_by_the_same_types",
        "laws/test_lifecycle_laws.py::test_a_purge_is_never_decided_for_whom_it_must_not_be",
        "integration/tenants/test_unknown_tenants.py::test_a_purge_by_hand_asks",
        "integration/tenants/test_purge_packs.py::test_more_tenants_than_anybody_expects_are_confirmed_first",
    ),
    # ---- on a scratch server
    "its processes": (
        "integration/postgres/test_scratch_isolation.py::test_it_sees_no_file_but_its_own",
        "integration/postgres/test_scratch_isolation.py::test_it_sees_no_process_and_no_network_but_its_own",
        "integration/postgres/test_scratch_isolation.py::test_nothing_that_it_started_outlives_it",
        "integration/postgres/test_scratch_isolation.py::test_where_nothing_can_be_isolated_nothing_is_started",
    ),
    "its files": (
        "integration/postgres/test_scratch_isolation.py::test_nothing_that_it_leaves_is_followed_or_believed",
        "integration/postgres/test_scratch_isolation.py::test_folders_that_are_too_deep_or_closed_are_removed",
    ),
    "its socket": ("integration/postgres/test_scratch_isolation.py::test_its_socket_cannot_be_replaced",),
    "its settings, those of its databases": (
        "integration/postgres/test_scratch_isolation.py::test_a_kept_server_stays_where_it_is_put",
    ),
    "its answers to a drill's checks": (
        "integration/drill/test_drill_hostile.py::test_a_report_carries_no_number_of_the_servers_choice",
        "integration/drill/test_drill.py::test_what_differs_in_the_restored_database_is_red",
    ),
    # ---- on this machine
    "configuration": (
        "unit/config/test_config.py::test_all_faults_are_told_at_once_in_the_order_of_the_file",
        "unit/config/test_config.py::test_an_unknown_key_comes_with_the_nearest_known_one",
    ),
    "keys and passphrases": (
        "unit/config/test_config_secrets.py::test_files_are_looked_at_but_never_read",
        "unit/config/test_wiring.py::test_a_signing_key_is_read_as_it_was_written",
        "unit/config/test_wiring.py::test_what_is_no_signing_key_is_refused_and_not_repeated",
        "integration/backup/test_backup_faults.py::test_no_backup_is_made_under_another_tenant_key",
        "integration/tenants/test_tenant_key.py::test_what_anybody_adds_neither_hides_a_tenant_key_nor_makes_the_right_one_look_wrong",
    ),
    "state folders: index, copies of ledgers": (
        "integration/backup/test_backup_generations.py::test_a_damaged_index_is_set_aside",
        "integration/backup/test_backup_generations.py::test_a_lost_index_costs_a_generation",
        "integration/backup/test_backup_losses.py::test_a_state_folder_put_back_from_the_middle_of_a_backup",
    ),
    "folders of scratch servers that were left": (
        "integration/postgres/test_scratch.py::test_nothing_is_removed_that_is_not_ours",
        "integration/postgres/test_scratch.py::test_a_folder_that_was_begun_and_no_more_is_removed",
    ),
}
"""The rows of `backupd manual trust`, by what is read."""

CANNOT = {
    "A false snapshot, signed with a stolen key.": (
        MACHINE,
        "integration/keeper/test_retention_liars.py::test_records_that_lie_about_no_time_drive_nothing_out",
        "integration/keeper/test_retention_liars.py::test_a_false_record_is_removed_and_missed_by_nobody",
        "cli/test_readme.py::test_every_command_in_readme_and_manual_works",  # `incidents` says what to do
    ),
    "A ledger cut short, on a machine that never saw it longer.": (
        "laws/test_ledger_laws.py::test_a_ledger_cut_off_is_found_by_any_witness",
    ),
    "What a keeper's key signed, and when.": (
        "integration/ledger/test_retired_keepers.py::test_what_it_signs_later_makes_nobody_remove_anything",
    ),
    "What is moved under a keeper's hands.": (
        "integration/keeper/test_moved_objects.py::test_what_is_moved_there_after_the_look_is_not_removed",
    ),
    "A server that lies to a drill.": (
        "integration/drill/test_drill_hostile.py::test_a_report_carries_no_number_of_the_servers_choice",
    ),
    "A server set aside for drills": (
        "integration/drill/test_drill_external_server.py::test_a_database_that_a_backup_reads_is_never_touched",
        "integration/drill/test_drill_external_server.py::test_a_server_that_holds_anything_is_refused",
    ),
}
"""What the same topic says cannot be told: as far as it can be, it is held here."""

THREATS = {
    "a disk, a server or a site is lost": ("integration/restore/test_round_trip.py", "golden/test_golden.py"),
    "rows are deleted or changed by mistake": (
        "integration/restore/test_restore_faults.py::test_a_taken_name_is_refused_before_anything_happens",
    ),
    "the store is broken into": (
        "integration/keys/test_secrecy.py::test_nothing_of_a_backup_shows",
        "integration/restore/test_restore_faults.py::test_another_identity_opens_nothing",
    ),
    "the writing node is broken into": (
        "integration/keys/test_node_cannot_read.py::test_no_secret_lies_on_the_node",
        "integration/keys/test_node_cannot_read.py::test_nothing_on_the_node_opens_a_section",
        "integration/keys/test_node_cannot_read.py::test_nothing_on_the_node_opens_a_keyring",
        MACHINE,
    ),
    "the store loses or alters bytes": (
        "integration/ledger/test_verify.py::test_a_changed_object_is_named",
        "integration/ledger/test_verify.py::test_a_missing_object_is_named",
        "integration/restore/test_restore_faults.py::test_every_damaged_object_stops_the_restore",
    ),
    "an identity and passphrase are stolen": (
        "integration/keys/test_rekey.py::test_only_the_new_recipients_open_what_lies_there",
        "integration/keys/test_rekey.py::test_a_change_of_recipients_begins_a_generation",
        "integration/tenants/test_purge.py::test_no_key_that_is_left_opens_what_was_kept_elsewhere",
    ),
    "all identities are lost": (
        "unit/seal/test_escrow_shares.py::test_any_three_restore_it",
        "integration/keys/test_escrow.py::test_by_commands",
    ),
    "somebody deletes from the store": (
        "integration/ledger/test_verify.py::test_a_missing_object_is_named",
        "integration/stores/test_append_only.py::test_thief_cannot_overwrite_or_remove",
    ),
}
"""The rows of README's table of what backupd protects from."""
LIMITS = ["configuration files, slots, WAL are needed"]
"""Rows of that table that say what is not in a backup: there is nobody to play."""

PROMISES = {
    "Nothing readable leaves memory.": (
        "integration/keys/test_secrecy.py::test_nothing_of_a_backup_shows",
        "integration/keys/test_secrecy.py::test_errors_do_not_quote",
        "laws/test_dedup_laws.py::test_the_spool_holds_no_plain_bytes",
    ),
    "A node can add, not read.": (
        "integration/keys/test_node_cannot_read.py::test_nothing_on_the_node_opens_a_section",
    ),
    "A snapshot exists exactly when its record does": (
        "crash/test_killed_backups.py::test_a_killed_backup_is_taken_up_by_the_next",
        "crash/test_store_failures.py::test_every_call_of_a_later_backup_may_fail",
        "integration/keeper/test_expire.py::test_records_go_first_and_keyrings_last",
    ),
    "A restored database equals its source": (
        "integration/restore/test_round_trip.py",
        "integration/drill/test_drill.py::test_a_database_of_every_type_is_green",
    ),
    "A tenant is gone from every copy by its deadline": (
        "laws/test_lifecycle_machine.py::TestLifecycle",
        MACHINE,
        "integration/tenants/test_purge_growth.py::test_an_incarnation_that_grows_loses_what_the_ledger_lists_all_the_same",
    ),
    "Nothing of another tenant changes": (
        "integration/tenants/test_purge.py::test_a_purge_takes_one_tenant_and_nothing_else",
        "integration/tenants/test_holds.py::test_a_held_tenant_stays_and_everybody_else_goes",
        "integration/restore/test_restore_selection.py::test_one_tenant_comes_with_the_shared_rows_and_nobody_elses",
    ),
    "Unknown means refuse": (
        "unit/config/test_config.py::test_an_unknown_key_comes_with_the_nearest_known_one",
        "integration/backup/test_backup_tenancy.py::test_an_unmapped_table_is_refused_and_not_named",
        "integration/stores/test_sftp_hostile.py::test_wrong_host_key",
        "integration/ledger/test_ledger_obeyed.py::test_a_ledger_behind_the_snapshot_stops_it",
        "integration/ledger/test_ledger_clock.py::test_a_clock_that_is_set_meanwhile_is_noticed",
    ),
    "The store and an identity suffice.": (
        "integration/restore/test_recover.py::test_every_row_is_written_as_a_plain_file",
        "vectors/test_vectors.py",
    ),
    "Memory is bounded": ("integration/backup/test_backup_memory.py", "integration/restore/test_recover.py"),
    "A green check can go red": (
        "integration/drill/test_drill_store.py::test_damaged_objects_are_red",
        "integration/drill/test_drill_store.py::test_checks_that_notice_no_damage_are_red",
        "laws/test_report_laws.py::test_no_verdict_passes_by_what_was_not_done",
    ),
}
"""The promises of `backupd manual design`."""

SETUPS = {
    "plain": (
        MACHINE,
        "integration/restore/test_restore_faults.py::test_every_damaged_object_stops_the_restore",
        "integration/daemon/test_units_daemon.py::test_each_unit_does_its_work_by_itself",
    ),
    "append-only": (
        "integration/stores/test_append_only.py::test_thief_cannot_overwrite_or_remove",
        "integration/stores/test_append_only.py::test_thief_can_hide_an_object_and_no_more",
        "integration/stores/test_append_only.py::test_thief_gets_no_command",
        "integration/keeper/test_expire.py::test_what_a_thief_hid_is_not_cleared_away",
        "integration/keeper/test_moved_objects.py::test_what_was_moved_is_not_cleared_away",
        MACHINE,
    ),
    "sub-account with ingest": (
        "integration/stores/test_sub_accounts.py::test_a_thief_of_the_nodes_key_changes_nothing_of_the_keepers",
        "integration/stores/test_sub_accounts.py::test_a_thief_cannot_open_an_object_of_the_keepers_to_write",
        "integration/stores/test_sub_accounts.py::test_a_node_with_a_sub_account_and_a_keeper_with_the_parents",
        MACHINE,
    ),
    "keeper apart": (
        MACHINE,  # a thief has the node's key, and the keeper's is elsewhere
        "integration/keeper/test_keeper_apart.py::test_who_has_all_of_a_node_does_no_keepers_work",
        "integration/daemon/test_units.py::test_a_writer_cannot_do_a_keepers_work",
        "integration/ledger/test_verify_ledger.py::test_what_a_writer_signs_is_no_entry_where_the_repository_names_keepers",
        "integration/stores/test_sub_accounts.py::test_a_thief_of_the_nodes_key_changes_nothing_of_the_keepers",
        "integration/stores/test_append_only.py::test_probe_tells_the_roles_apart",
    ),
    "keeper beside": (
        "integration/daemon/test_units.py::test_a_unit_sees_its_own_credentials_only",
        "integration/daemon/test_units.py::test_a_unit_writes_into_its_own_folders_only",
        "integration/daemon/test_units.py::test_a_unit_is_confined",
        "integration/daemon/test_units.py::test_a_writer_cannot_do_a_keepers_work",
    ),
    "drill under its unit": (
        "integration/daemon/test_units.py::test_a_server_of_the_drills_unit_sees_nothing_of_it",
        "integration/daemon/test_units.py::test_a_unit_is_confined",
        "integration/daemon/test_units.py::test_the_program_works_as_confined_as_its_units",
        "integration/drill/test_drill_hostile.py::test_an_owners_code_reads_no_secret_in_a_drill",
        "integration/postgres/test_scratch_isolation.py::test_nothing_that_it_started_outlives_it",
        "integration/postgres/test_scratch_isolation.py::test_nothing_that_it_leaves_is_followed_or_believed",
    ),
}
"""The set-ups that are shipped, and what of an adversary's is tried against each."""


@cache
def defined(path: str) -> frozenset[str]:
    """Names of tests, and of test cases that machines make, of one file."""
    body = ast.parse((TESTS / path).read_text()).body
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    return frozenset(
        functions | {target.id for node in body if isinstance(node, ast.Assign) for target in _names(node)}
    )


def _names(node: ast.Assign) -> Iterator[ast.Name]:
    return (target for target in node.targets if isinstance(target, ast.Name))


def first_cells(text: str) -> list[str]:
    """What stands first in each row of a document's tables, headings left out."""
    tables = re.findall(r"^\|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [row.split("|")[1].strip() for table in tables for row in table.splitlines()]


@pytest.mark.parametrize("held", [ROWS, CANNOT, THREATS, PROMISES, SETUPS])
def test_every_row_names_tests_that_exist(held: dict[str, tuple[str, ...]]) -> None:
    """By file and name; a file alone stands for all that is in it."""
    for row, tests in held.items():
        assert tests, row
        for test in tests:
            path, _, name = test.partition("::")
            assert (TESTS / path).is_file(), (row, test)
            assert not name or name in defined(path), (row, test)


def test_every_row_of_the_tables_of_trust_is_held() -> None:
    """One that is new needs a test that plays whoever can write what is read."""
    text = (MANUAL / "trust.md").read_text()
    assert first_cells(text) == list(ROWS)
    cannot = text.partition("## What cannot be told")[2]
    bullets = re.findall(r"^- \*\*(.+?)\*\*", cannot, re.MULTILINE)
    assert bullets == list(CANNOT)


def test_the_code_points_to_every_row_and_to_no_other() -> None:
    """Where something of a row is read, the module says in which row stands who can write it."""
    named = set[str]()
    for path in (ROOT / "backupd").rglob("*.py"):
        named |= set(
            re.findall(r"`backupd manual trust`, row \*(.+?)\*(?=[\s.,)])", " ".join(path.read_text().split()))
        )
    assert named == set(ROWS)


def test_every_threat_and_promise_is_held() -> None:
    """README says from what it protects, and the manual what it promises."""
    readme = (ROOT / "README.md").read_text().partition("## What it protects from")[2].partition("\n## ")[0]
    assert first_cells(readme) == [*THREATS, *LIMITS]
    design = (MANUAL / "design.md").read_text().partition("## Promises")[2].partition("\n## ")[0]
    promised = [
        one.replace("\n   ", " ") for one in re.findall(r"^\d+\. \*\*(.+?)\*\*", design, re.MULTILINE | re.DOTALL)
    ]
    assert promised == list(PROMISES)
