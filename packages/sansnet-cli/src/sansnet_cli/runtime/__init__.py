"""What runs while a guest is served."""
