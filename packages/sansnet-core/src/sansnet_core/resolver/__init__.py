"""Our own resolver: it answers the guest's questions for names, and knows which addresses stand for which names."""
