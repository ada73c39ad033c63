"""`python -m sansnet_cli`."""

from __future__ import annotations

from sansnet_cli.main import main

if __name__ == "__main__":
    main()
