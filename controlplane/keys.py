"""The key that tokens are signed with, and the admin's token: files that only their owner can read, made once."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import OKPAlgorithm

from controlplane.files import write_private

ISSUER = "wye"
ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Keys:
    """What verifies tokens (for Envoy), and the admin's token."""

    jwks: str
    admin_token: str


def load_or_make(directory: Path) -> Keys:
    """The keys in `directory`, made at the first call; raises OSError when it cannot be read or written."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key_file, token_file = directory / "signing-key.pem", directory / "admin-token"
    if key_file.exists():
        key = load_pem_private_key(key_file.read_bytes(), password=None)
        assert isinstance(key, Ed25519PrivateKey)
    else:
        key = Ed25519PrivateKey.generate()
        write_private(key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    if not token_file.exists():
        write_private(token_file, _sign(key, ADMIN, ("admins",)))
    public = json.loads(OKPAlgorithm.to_jwk(key.public_key()))
    jwks = json.dumps({"keys": [{**public, "kid": "1", "alg": "EdDSA", "use": "sig"}]}, sort_keys=True)
    return Keys(jwks, token_file.read_text().strip())


def _sign(key: Ed25519PrivateKey, user: str, groups: tuple[str, ...]) -> str:
    claims = {
        "iss": ISSUER,
        "sub": user,
        "groups": list(groups),
        "jti": secrets.token_hex(8),
        "iat": int(time.time()),
    }
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": "1"})
