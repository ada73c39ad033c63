"""The time that transfers take over bad links, in virtual time: a matrix of cells, a snapshot, and pictures of it.

`python -m tests.netsim` measures all cells and writes the snapshot and the pictures again.
"""
