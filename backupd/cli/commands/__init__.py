"""A module for each group of commands. They import what they run when they run it: `--help` loads none of it."""
