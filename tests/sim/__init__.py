"""Parts of tests that are not published: memory, and a network whose calls are recorded."""
