"""The role ``tickview alert``: it matches detections with the alerts of users, and delivers the matches."""
