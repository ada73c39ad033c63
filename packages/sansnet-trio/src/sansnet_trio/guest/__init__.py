"""Guests in network namespaces: commands that are started in one of their own, and namespaces that exist already."""
