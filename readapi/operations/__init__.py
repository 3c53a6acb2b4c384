"""Endpoints for operators and producers: events, dead letters, read models, health, metrics and the dashboard."""
