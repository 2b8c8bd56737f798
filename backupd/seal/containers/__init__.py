"""Packs and parts: blocks sealed together, written and read (FORMAT.md §6)."""
