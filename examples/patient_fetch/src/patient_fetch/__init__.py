"""An HTTP client that waits, repeats and gives up."""

from __future__ import annotations

from patient_fetch.client import Connect, FetchError, Patience, fetch

__all__ = ["Connect", "FetchError", "Patience", "fetch"]
