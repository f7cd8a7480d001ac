"""Errors a person can mend; anything else is a fault of the program and keeps its traceback."""


class InputError(ValueError):
    """The command or its input is unusable: what is wrong, where, and what to do. Exit code 2."""
