"""Guests in network namespaces: commands in new namespaces, and namespaces that exist already."""
