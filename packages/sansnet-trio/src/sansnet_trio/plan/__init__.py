"""Makes a guest's plan and setup from options and the host's network, before the guest exists."""
