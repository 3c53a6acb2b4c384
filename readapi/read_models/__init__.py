"""The endpoints of read models, derived from their declarations: parameters, documents, pages, counts, downloads."""
