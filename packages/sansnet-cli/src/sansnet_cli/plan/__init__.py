"""From the options and the host to what a guest gets. Done before the guest exists."""
