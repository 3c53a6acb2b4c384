"""Contenders of ``tickview bench query``: other stores of patterns behind the same server, and the server alone."""
