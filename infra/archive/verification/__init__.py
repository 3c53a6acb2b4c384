"""Verification of the archive: hash chains, tamper detection, heads, and the schedule."""
