"""Command lines: the options that commands share, the values of options, and the records that they become."""
