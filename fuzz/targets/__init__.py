"""The targets, by area. The heads of the modules say what must hold."""
