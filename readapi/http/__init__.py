"""HTTP for all resources: operations, parameters, bodies, answers, problems, freshness, metrics."""
