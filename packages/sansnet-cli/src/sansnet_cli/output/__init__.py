"""The output of the command: messages, stdout and files."""
