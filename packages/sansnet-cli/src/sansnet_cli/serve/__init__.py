"""`sansnet serve`. `parser` reads the command line, `serve` runs with trio."""
