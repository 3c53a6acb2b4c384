"""What answers the same scans: other read models behind the same server, and the server alone."""
