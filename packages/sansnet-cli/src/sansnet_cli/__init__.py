"""The `sansnet` command.

Each command has a folder, whose modules are named after the time when they run:

- `parser` makes the command's options from its command line, and is imported by documentation and completion, too.
- `command` runs from the command line to the fork of the guest. It loads only the modules that the guest needs.
- `start` runs after that fork and before trio is loaded, so that the guest is ready early.
- `serve` runs with trio, until the guest is gone.

They share `options` (command lines), `output` (messages and files), `process` (the process itself) and `runtime` (the
parts that run while a guest is served). `compat` has the command lines of pasta, passt and pesto.
"""

from sansnet_cli._version import __version__

__all__ = ["__version__"]
