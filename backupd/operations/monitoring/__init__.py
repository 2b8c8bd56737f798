"""What the daemon tells of regions and jobs, by metrics, notifications, a page and a heartbeat: see `teller.Teller`."""
