"""Access control: the guard, origins of pages and rate limits."""

from readapi.http.identities import ANONYMOUS, SCOPES, Authenticator, Identity, Scope, identity_of, is_admitted

__all__ = ["ANONYMOUS", "SCOPES", "Authenticator", "Identity", "Scope", "identity_of", "is_admitted"]
