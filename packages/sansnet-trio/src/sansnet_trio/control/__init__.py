"""The control socket of a running process, and the commands that it understands."""
