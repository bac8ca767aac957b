"""A program on a pseudo-terminal, for tests that need a screen.

Some build roots have no /dev/pts: there is nothing to test on then, and the test says so.
"""
import os
import pty
import unittest


def fork_on_terminal():
    """(pid, fd) as pty.fork(); skips the test where this machine gives no pseudo-terminal."""
    try:
        for fd in pty.openpty():
            os.close(fd)
    except OSError as e:
        raise unittest.SkipTest(f"no pseudo-terminal to be had ({e}); is /dev/pts mounted?")
    return pty.fork()
