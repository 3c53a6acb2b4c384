"""Fuzzing: hostile input for FUZZ_MINUTES per test, or a smoke test of a second each."""
