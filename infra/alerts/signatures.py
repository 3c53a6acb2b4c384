"""The secrets of webhooks, and the signatures of requests (Standard Webhooks, https://www.standardwebhooks.com).

A secret is derived from the key of the user and the salt of the alert. It is therefore stored nowhere, and nobody can
derive it any more once the user is forgotten.
"""

import hmac
from base64 import b64encode
from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from infra.user_keys.encryption import UserKey

TEXT_PREFIX = "whsec_"
"""The first characters of a secret in the text form of Standard Webhooks."""

SECRET_BYTES = 32
"""Number of bytes of a secret."""


def webhook_secret(key: UserKey, list_id: str, salt: str) -> bytes:
    """Derive the secret of a webhook (HKDF-SHA256, RFC 5869).

    Args:
        key: The key of the user. It must not be destroyed.
        list_id: The id of the preset.
        salt: The salt of the alert.
    """
    info = b"tickview webhook " + list_id.encode()
    return HKDF(SHA256(), SECRET_BYTES, salt=bytes.fromhex(salt), info=info).derive(key.secret)


def format_secret(secret: bytes) -> str:
    """Return a secret in the text form that users and their libraries know."""
    return TEXT_PREFIX + b64encode(secret).decode()


def signed_headers(secret: bytes, delivery_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that identify and sign a request.

    Args:
        secret: The secret of the webhook.
        delivery_id: The id of the delivery, the same in each attempt.
        timestamp: Time of the attempt in whole seconds since the epoch.
        body: The body of the request.
    """
    content = b"%b.%d.%b" % (delivery_id.encode(), timestamp, body)
    signature = b64encode(hmac.digest(secret, content, sha256)).decode()
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
