"""Who asks, and what they may do."""

from readapi.http.identities import ANONYMOUS, SCOPES, Authenticator, Identity, Scope, identity_of, is_admitted

__all__ = ["ANONYMOUS", "SCOPES", "Authenticator", "Identity", "Scope", "identity_of", "is_admitted"]
