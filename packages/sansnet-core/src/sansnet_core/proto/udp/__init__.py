"""UDP: the translator (`handler`), its sockets and flows (`flow`), and datagrams joined into one frame (`runs`)."""
