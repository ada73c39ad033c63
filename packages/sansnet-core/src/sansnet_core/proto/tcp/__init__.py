"""TCP (RFC 9293): connections of the guest, translated to stream sockets of the host."""
