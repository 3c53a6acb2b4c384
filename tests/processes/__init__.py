"""processes tests."""
