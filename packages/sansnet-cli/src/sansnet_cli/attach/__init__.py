"""`sansnet attach`. `parser` reads the command line, `start` runs before trio is loaded, `serve` runs with it."""
