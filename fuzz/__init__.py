"""Coverage-guided fuzzing of sansnet with atheris; README.md says how to use it."""
