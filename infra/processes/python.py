"""Child processes that run a Python module of TickView."""

import os
import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module of TickView with this interpreter.

    The option ``-P`` keeps the working directory off the module search path. Without it, a folder of the user named
    ``infra`` would be imported instead of TickView's package, and the process could not start.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def ignore_working_directory() -> None:
    """Keep the working directory off the module search path of every later child process.

    This covers processes whose command line is not ``module_command``, such as those of ``multiprocessing``.
    See https://docs.python.org/3/using/cmdline.html#envvar-PYTHONSAFEPATH.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
