"""The name of the operator who runs a command, for the events that the command records."""

import getpass


def operator_name() -> str:
    """Return ``operator <name of the system user>``."""
    try:
        return f"operator {getpass.getuser()}"
    except (KeyError, OSError):  # The user of a container may have no name.
        return "operator"
