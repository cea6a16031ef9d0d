"""Mistakes that a user can make, told in one line."""


class UserError(Exception):
    """A mistake that a user can make and mend.

    The message is one line: what was wrong, and what to do. An app prints it to stderr and exits
    with status 2, without a traceback.
    """


def require(holds: bool, message: str) -> None:
    """Raises `UserError` with that message unless the condition holds."""
    if not holds:
        raise UserError(message)
