"""A guest, a host and a cable between them, in virtual time.

Nothing here imports the core's `wire` or `proto`: formats and TCP are written a second time, from the RFCs, so that
a mistake in the core is not excused by the same mistake in its tests.
"""
