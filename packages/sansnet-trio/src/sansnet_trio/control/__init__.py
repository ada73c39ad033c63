"""The control socket of a running process, and its commands."""
