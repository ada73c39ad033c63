"""The process of the command: where it imports from, its limits and privileges, the background, systemd."""
