"""The console: a web application of static files that shows the service in a browser."""
