"""Access to the API: static tokens, JWTs of an identity provider, and the guard made of them."""
