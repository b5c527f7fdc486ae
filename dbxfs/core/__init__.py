"""Pure decisions: no I/O, no clock, no tasks. Everything here is a function of its arguments."""
