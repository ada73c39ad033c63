"""The command lines of `sansnet run`, `attach`, `serve` and `qemu`, checked as far as possible without the host.

Each command has a module, so that it loads its own parser only.
"""
