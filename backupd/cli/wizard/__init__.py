"""The questions of `backupd setup`, and what is made of the answers."""
