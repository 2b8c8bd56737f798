"""The expiry of snapshots on one store: what lies there, what of it is needed, and the removal of the rest."""
