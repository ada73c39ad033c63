"""Recordings of networks in files, and reports of the core's own mistakes."""
