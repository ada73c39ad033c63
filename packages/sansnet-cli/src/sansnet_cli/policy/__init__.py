"""`sansnet policy`: check, explain, test and show policies, without a guest."""
