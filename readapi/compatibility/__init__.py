"""Rules under which the API speaks as the API of another platform does."""
