"""The role that removes: purges lives, expires snapshots, looks whether they are gone."""
