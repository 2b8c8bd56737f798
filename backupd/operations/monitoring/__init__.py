"""Monitoring of regions and jobs: metrics, messages to people, a status page and a heartbeat."""
