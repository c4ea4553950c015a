"""A module that cannot be imported, as a library that lacks a part of its machine."""

MESSAGE = "libnothing.so.1: cannot open shared object file: No such file or directory"

raise ImportError(MESSAGE)
