"""The process itself: its imports, limits, privileges and messages, the background, the service manager."""
