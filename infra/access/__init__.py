"""With what it is known who asks: a file of hashed tokens, and JWTs of somebody else's making."""
