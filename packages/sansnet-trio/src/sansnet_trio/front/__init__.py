"""Entry points for programs: async context managers that give a link, a command, a namespace or a machine a network."""
