"""``python -m infra.cli``: the ``tickview`` command, run as a module."""

from infra.cli import main

main()
