"""Resources for operators and producers: health, read models, dead letters, events, dashboard."""
