"""`sansnet qemu`. See `sansnet_cli` for the names of its modules."""
