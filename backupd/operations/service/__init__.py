"""The daemon: jobs as data, run as child processes on timetables, and events about them for listeners.

Logs, metrics, messages and pages implement `jobs.JobListener`. Facts about regions arrive there, too, as the answer of
each region's `observe` job.
"""
