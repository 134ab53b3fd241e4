"""How principals prove who they are, and what was given to them. Secrets are digests; times are epoch seconds."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, LargeBinary, String, Text

from ostiary.store.database import table

CLIENT: Final = table(
    "oauth_client",
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("redirects", Text, nullable=False),  # one address a line
    Column("scopes", Text, nullable=False),  # space separated patterns; "" is everything its roles may
    Column("auth", Text, nullable=False),  # how it proves who it is
    Column("profile", Text, nullable=False),
    Column("bound", Text, nullable=False),  # "dpop", "certificate": its tokens are, always
    Column("jwks", Text, nullable=False),  # its own public keys, JSON
    Column("exchange", Text, nullable=False),  # clients whose tokens it may exchange
    Column("until_s", BigInteger, nullable=False),  # from then on it is refused
    Column("backchannel_logout_uri", Text, nullable=False),  # where it is told that a session has ended; "" for nowhere
)
CLIENT_LISTS: Final = {"redirects": "\n", "scopes": " ", "exchange": " "}  # and what stands between its entries

CLIENT_SECRET: Final = table(
    "oauth_client_secret",
    Column("digest", String(64), primary_key=True),  # HMAC-SHA-256 under the pepper
    Column("principal", ForeignKey("principal.id"), nullable=False, index=True),
    Column("made_at_us", BigInteger, nullable=False),
)

REGISTERED: Final = table(  # a client that registered itself
    "registered_client",
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("scopes", Text, nullable=False),  # the most that it may ask for
)

PROVISIONER: Final = table(  # a client by which a company's directory keeps users here (SCIM)
    "provisioner",
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("roles", Text, nullable=False),  # that it may give, and what it calls each: JSON
)

PROVISIONED: Final = table(  # a user that is kept so
    "provisioned",
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("id", String(100), nullable=False, unique=True),  # by which its client names it
    Column("client", String(200), nullable=False, index=True),
    Column("user_name", String(200), nullable=False),  # what the client calls it: at first its login
    Column("external_id", String(200), nullable=False),
    Column("ended", Boolean, nullable=False),  # the client disabled it, and no administrator since
    Column("deleted", Boolean, nullable=False),  # the client knows it no more
)

PASSWORD: Final = table(
    "password",
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("hash", String(300), nullable=False),  # argon2id
)

FACTOR: Final = table(  # what a person proves himself by beside the password
    "factor",
    Column("id", String(100), primary_key=True),  # of a passkey, and of a code for when all is lost, its digest
    Column("principal", ForeignKey("principal.id"), nullable=False, index=True),
    Column("kind", String(20), nullable=False),
    Column("name", String(200), nullable=False),  # as its person calls it
    Column("sealed", LargeBinary, nullable=False, info={"sealed_for": "factor:{principal}"}),
    Column("counter", BigInteger, nullable=False),  # the last step, or use, that was shown: none is good twice
    Column("made_at_us", BigInteger, nullable=False),
    Column("used_at_us", BigInteger, nullable=False),  # 0: never yet
)

PEPPER: Final = table(
    "identity_pepper",
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("sealed", LargeBinary, nullable=False, info={"sealed_for": "identity-pepper"}),
)

SESSION: Final = table(
    "identity_session",
    Column("digest", String(64), primary_key=True),
    Column("sid", String(100), nullable=False),
    Column("principal", ForeignKey("principal.id"), nullable=False, index=True),
    Column("authenticated_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False, index=True),
    Column("amr", Text, nullable=False),
    Column("provider", String(100), nullable=False),  # by whose word he is signed in; "" by his own password
    Column("outside_sid", String(255), nullable=False, index=True),  # what the provider calls the session
)

PROVIDER: Final = table(  # whose word on who somebody is counts here
    "identity_provider",
    Column("name", String(100), primary_key=True),
    Column("facts", Text, nullable=False),  # JSON: identity.providers.Provider
    Column("sealed_secret", LargeBinary, nullable=False, info={"sealed_for": "provider:{name}"}),
)

OUTSIDE: Final = table(  # whose account a provider's person has: never by the e-mail, which changes hands
    "outside_account",
    Column("issuer", String(500), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("principal", ForeignKey("principal.id"), nullable=False, index=True),
)

FAREWELL: Final = table(  # clients that are still to be told of a session's end
    "logout_notice",
    Column("client", String(200), primary_key=True),
    Column("sid", String(100), primary_key=True),
    Column("subject", String(200), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due_at_s", BigInteger, nullable=False, index=True),
)

KNOWN_BROWSER: Final = table(  # a person has signed in there: strangers' wrong tries do not lock him out of it
    "known_browser",
    Column("digest", String(64), primary_key=True),  # of its cookie
    Column("principal", ForeignKey("principal.id"), nullable=False, index=True),
    Column("sid", String(100), nullable=False),  # the last session there: it goes when its person ends that one
    Column("expires_at_s", BigInteger, nullable=False, index=True),
)

GRANT: Final = table(
    "oauth_grant",
    Column("id", String(100), primary_key=True),
    Column("client", ForeignKey("principal.id"), nullable=False, index=True),
    Column("principal", ForeignKey("principal.id"), nullable=False, index=True),
    Column("sid", String(100), nullable=False),
    Column("audience", String(500), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("authenticated_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False, index=True),  # the absolute end, fixed at the first grant
    Column("revoked", Boolean, nullable=False),
    Column("bound", Text, nullable=False),  # "jkt:...": what its refresh tokens are bound to
    Column("amr", Text, nullable=False),  # how the person signed in (RFC 8176)
)

ONE_TIME: Final = table(
    "one_time",
    Column("digest", String(64), primary_key=True),  # of its kind and its text
    Column("client", String(200), nullable=False, index=True),  # whose it is
    Column("grant", String(100), nullable=False, index=True),  # what it opens, or opened; "" where nothing yet
    Column("facts", Text, nullable=False),  # JSON
    Column("used", Boolean, nullable=False),  # kept until it expires, so that a replay is seen
    Column("expires_at_s", BigInteger, nullable=False, index=True),
)

REFRESH: Final = table(
    "oauth_refresh",
    Column("digest", String(64), primary_key=True),
    Column("grant", ForeignKey("oauth_grant.id"), nullable=False, index=True),
    Column("superseded_at_s", BigInteger, nullable=False),  # 0: live
    Column("retried", Boolean, nullable=False),  # a lost answer is given again once
    Column("expires_at_s", BigInteger, nullable=False, index=True),
)

THROTTLE: Final = table(
    "sign_in_throttle",
    Column("key", String(64), primary_key=True),  # digest of account and address: nobody locks another out
    Column("failures", Integer, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False, index=True),
)
