"""`sansnet attach`. See `sansnet_cli` for the names of its modules."""
