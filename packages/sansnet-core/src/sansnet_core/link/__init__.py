"""Framings of links: how frames are carried in a byte stream. Nothing here does I/O."""
