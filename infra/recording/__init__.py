"""The recorder role: receive messages, record them as events, store dead letters, count both."""
