"""The catalogue as it is served: all symbols and universes, in the memory of each API process."""
