"""Command lines: what the commands share of their options, their values, and the records that they become."""
