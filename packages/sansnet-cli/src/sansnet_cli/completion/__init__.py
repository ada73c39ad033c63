"""`sansnet completion`: scripts by which shells complete command lines of sansnet."""
