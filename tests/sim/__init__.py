"""A guest, a host and a cable between them, in virtual time.

Nothing here imports the core's `wire` or `proto`. Formats and TCP are written a second time, from the RFCs, so that a
mistake in the core is not hidden by the same mistake in its tests.
"""
