"""Status and commands for the operator: read models, intake, archive."""
