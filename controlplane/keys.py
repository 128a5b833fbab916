"""The keys of an installation: what signs tokens, what encrypts secrets, and the admin's token.

Files that only their owner can read, made once. Tokens are signed and not stored: whoever has the database has none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import OKPAlgorithm

from controlplane.domain import ADMINS, GROUPS_CLAIM, TOKEN_ID_CLAIM, USER_CLAIM, Token, groups_in, membership
from controlplane.files import make_private, write_private

ISSUER = "wye"
ADMIN = "admin"
#: Whom the token is for that a Prometheus beside Wye reads the metrics with.
MONITOR = "prometheus"
#: The comment of tokens that nobody asked for.
_MADE = "made at the first start"


class Signer:
    """Makes tokens that Envoy accepts."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def sign(
        self, user: str, groups: tuple[str, ...], *, comment: str, creator: str, now_ms: int, expires_ms: int | None
    ) -> tuple[str, Token]:
        """A new token, and all that may be kept of it."""
        token = Token(secrets.token_hex(16), user, groups, comment, creator, now_ms, expires_ms)
        claims: dict[str, object] = {
            "iss": ISSUER,
            USER_CLAIM: user,
            GROUPS_CLAIM: membership(groups),
            TOKEN_ID_CLAIM: token.id,
            "iat": now_ms // 1000,
        }
        if expires_ms is not None:
            claims["exp"] = -(-expires_ms // 1000)
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": "1"}), token

    def read(self, text: str) -> dict[str, object]:
        """The claims of a token that was made with this key and has not expired; raises jwt.InvalidTokenError."""
        claims: dict[str, object] = jwt.decode(text, self._key.public_key(), algorithms=["EdDSA"], issuer=ISSUER)
        return claims


@dataclass(frozen=True, slots=True)
class Keys:
    """What verifies tokens (for Envoy), what makes them, and the admin's."""

    jwks: str
    admin_token: str = field(repr=False)
    #: What is known of the admin's token.
    admin: Token
    signer: Signer = field(repr=False, compare=False)


def made(directory: Path) -> bool:
    """Whether `load_or_make` has made the keys in `directory` already."""
    return (directory / "admin-token").exists()


def load_or_make(directory: Path) -> Keys:
    """The keys in `directory`, made at the first call; raises OSError when it cannot be read or written."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key_file, token_file = directory / "signing-key.pem", directory / "admin-token"
    if not key_file.exists():
        made = Ed25519PrivateKey.generate()
        make_private(key_file, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    key = load_pem_private_key(key_file.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    signer = Signer(key)
    admin = kept_token(token_file, signer, ADMIN, (ADMINS,))
    public = json.loads(OKPAlgorithm.to_jwk(key.public_key()))
    jwks = json.dumps({"keys": [{**public, "kid": "1", "alg": "EdDSA", "use": "sig"}]}, sort_keys=True)
    return Keys(jwks, token_file.read_text().strip(), admin, signer)


def kept_token(file: Path, signer: Signer, user: str, groups: tuple[str, ...]) -> Token:
    """What is known of the token in a file, which is made, for this user and these groups, when it is not there.

    One that says its groups as tokens once did, so that Envoy would not find any, is replaced.
    """
    former = file.exists()
    if not former or GROUPS_CLAIM not in _claims(file.read_text().strip()):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        now_ms = int(time.time()) * 1000
        text, _ = signer.sign(user, groups, comment=_MADE, creator=ADMIN, now_ms=now_ms, expires_ms=None)
        # What another has made meanwhile stays: it may have been handed out.
        (write_private if former else make_private)(file, text)
    return _known(file.read_text().strip())


def secrets_key(directory: Path) -> bytes:
    """The key that secrets are encrypted with, made at the first call; raises OSError as above.

    Without this file the secrets in the database cannot be read any more, by anybody.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = directory / "secrets-key"
    if not file.exists():
        make_private(file, base64.b64encode(secrets.token_bytes(32)).decode())
    return base64.b64decode(file.read_text())


def form_key(directory: Path) -> bytes:
    """The key that the Serving page's forms are signed with."""
    return hashlib.sha256(b"forms" + secrets_key(directory)).digest()


def fingerprint(directory: Path) -> str:
    """What tells these keys from others, and nothing about them."""
    both = load_or_make(directory).jwks.encode() + secrets_key(directory)
    return hashlib.sha256(b"wye keys " + both).hexdigest()


def _claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})  # from our own file
    return claims


def _known(token: str) -> Token:
    claims = _claims(token)
    return Token(
        claims[TOKEN_ID_CLAIM], claims[USER_CLAIM], groups_in(claims[GROUPS_CLAIM]), _MADE, ADMIN, claims["iat"] * 1000
    )
