"""The broker: a process that does what needs files, netlink or new processes for the one that serves a guest.

The serving process reads the guest's bytes, so it is confined, and can do none of that. The broker is forked from it
before, and has the rights of the user who started sansnet, without capabilities. It never sees a byte of the guest.

It has three sockets to the serving process. Requests (`requests`) are one byte each, from a closed list: all paths are
known to the broker from the options, and none can be named. News (`news`) go the other way. Changes (`changes`) are
JSON with the addresses, routes and names of the guest.
"""
