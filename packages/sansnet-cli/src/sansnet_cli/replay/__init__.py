"""`sansnet replay`: run a recording again."""
