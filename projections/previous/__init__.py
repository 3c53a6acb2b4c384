"""Former projections: the copied module of each projection to whose builds a rollback must stay possible.

The registry registers the projections of all modules in this package.
"""
