"""The one class for what a user got wrong; imports nothing, so that everybody can import it."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user wrote or provided is wrong; the text names it and says what to do.

    The command line prints the text alone, without a traceback, and exits with status 2.
    """
