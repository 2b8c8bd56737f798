"""The daemon's place on a machine: its service manager, its log, its locks."""
