"""The test suite: unit (pure), integration (real servers), processes (real processes and real HTTP)."""
