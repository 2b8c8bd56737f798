"""The keeper takes what nodes handed in: checked, copied, and out of their reach from then on (FORMAT.md §15)."""
