"""The role that removes: purges incarnations, expires snapshots, looks whether they are gone."""
