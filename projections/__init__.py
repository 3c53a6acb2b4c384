"""What we tell from the events: read models, the engine that folds them, and the ports it needs. No I/O."""
