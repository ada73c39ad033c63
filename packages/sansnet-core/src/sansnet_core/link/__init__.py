"""What links have between the descriptor and the frames: framings and rings, without descriptors."""
