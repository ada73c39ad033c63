"""The parts that run while guests are served. `session` starts them."""
