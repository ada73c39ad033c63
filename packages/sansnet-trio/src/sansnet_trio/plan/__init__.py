"""From a person's wishes and the host's network to what a guest gets. Decided before the guest exists."""
