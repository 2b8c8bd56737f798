"""The daemon's work: jobs as data, run as child processes on a timetable, and what is told of them.

Whoever wants to know what happens (logs, metrics, notifications, pages) implements `told.Told`; what there is to know
about regions arrives with it, as the answer of each region's `observe` job.
"""
