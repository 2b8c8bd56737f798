"""Only a list of fixture modules; the fixtures live in the files named."""

pytest_plugins = [
    "fix_order",
    "fix_internal_errors",
    "fix_clock",
    "fix_postgres",
    "fix_summaries",
    "fix_nodes",
    "fix_recover",
    "fix_regions",
    "fix_inplace",
    "fix_drills",
    "fix_keeper",
    "fix_offline_keeper",
    "fix_handmade_keeper",
    "fix_sftp",
    "fix_stores",
    "fix_systemd",
    "fix_every_type",
    "fix_daemon",
]
