"""The version of all distributions of sansnet. This is the only file that holds it; others link to it."""

__all__ = ["__version__"]

__version__ = "0.1.0"
