"""`sansnet serve`. See `sansnet_cli` for the names of its modules."""
