"""Socket.IO: the events and subscriptions of the platform's UI, fed by the hub of live push. Needs python-socketio."""
