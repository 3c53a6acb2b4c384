"""The worker role: lease segments, fold events into read models, expire patterns, switch and remove builds."""
