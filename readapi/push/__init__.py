"""Live push: what is committed to the read models, told to everybody who is connected and asked for it."""
