"""How it is asked: the Falcon application, one module per resource family."""
