"""Who asks, and what they may do."""

from readapi.http.identities import NOBODY, SCOPES, Authenticator, Identity, Scope, identity_of, is_admitted

__all__ = ["NOBODY", "SCOPES", "Authenticator", "Identity", "Scope", "identity_of", "is_admitted"]
