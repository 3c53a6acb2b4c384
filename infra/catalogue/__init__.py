"""The catalogue: read symbols and universes from files or from the platform's database, and record the changes."""
