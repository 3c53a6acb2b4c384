"""Alerts: the queue of deliveries, their record in the log of the users, and requests to webhooks."""
