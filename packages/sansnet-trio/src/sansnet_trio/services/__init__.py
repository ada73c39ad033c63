"""Services in the program: the program's own tasks are the other end of the guest's connections and datagrams."""
