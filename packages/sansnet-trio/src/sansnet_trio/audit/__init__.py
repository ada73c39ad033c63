"""Accounts of what a guest used and tried, made from the events of its network."""
