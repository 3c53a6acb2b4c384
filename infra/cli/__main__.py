"""``python -m infra.cli``: the ``tickview`` command without its installed name."""

from infra.cli import main

main()
