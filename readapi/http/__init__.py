"""HTTP for all resources: operations, parameters, bodies, responses, problems, freshness and request metrics."""
