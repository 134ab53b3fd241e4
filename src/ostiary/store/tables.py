"""All tables, by who owns them; importing this module registers them all."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Text

from ostiary.store.database import table

# Who exists, what they hold, which ERP user stands for them, and what was revoked: read by more than one package.

REASON_MAX_CHARS: Final = 300

PRINCIPAL: Final = table(
    "principal",
    Column("id", String(200), primary_key=True),  # "user:anna" or "client:shop"
    Column("name", String(200), nullable=False),
    Column("person", String(200), nullable=False),  # the human behind it; a user's own id unless said otherwise
    Column("generation", Integer, nullable=False),  # goes up with every change of roles: older tokens are revoked
    Column("active", Boolean, nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
)

ASSIGNMENT: Final = table(
    "assignment",
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("role", String(200), primary_key=True),
)

ROLE_SET: Final = table(
    "role_set",
    Column("id", String(20), primary_key=True),  # foundation.ids.role_set_id
    Column("roles", Text, nullable=False),  # sorted, joined by ","
)

ERP_ACCOUNT: Final = table(
    "erp_account",
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("system", String(100), primary_key=True),
    Column("login", String(200), nullable=False),
    Column("uid", String(100), nullable=False),  # the ERP's own id of that user; "" until it is known
    Column("sealed_secret", LargeBinary, nullable=False, info={"sealed_for": "erp-account:{system}:{principal}"}),
)

ERP_PAST: Final = table(  # who stood behind an account that is gone: his hand in the ERP's records is still his
    "erp_past",
    Column("system", String(100), primary_key=True),
    Column("uid", String(100), primary_key=True),
    Column("login", String(200), primary_key=True),
    Column("person", String(200), primary_key=True),
    Column("at_us", BigInteger, nullable=False),  # when it went
)

DEVICE: Final = table(
    "device",
    Column("name", String(200), primary_key=True),
    Column("fingerprint", String(64), nullable=False, unique=True),  # SHA-256 of its certificate, hex
    Column("principal", String(200), nullable=False),  # whom it is registered for; "" for everybody
)

REVOCATION: Final = table(
    "revocation",
    Column("key", String(300), primary_key=True),  # "jti:...", "grant:...", "sid:...", "gen:user:anna#3", "cgen:..."
    Column("expires_at_s", BigInteger, nullable=False, index=True),  # when no token it names can be alive any more
    Column("reason", String(REASON_MAX_CHARS), nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

SIGNING_KEY: Final = table(
    "signing_key",
    Column("kid", String(100), primary_key=True),
    Column("purpose", String(20), nullable=False),  # "access", "id", "logout": never one key for two
    Column("state", String(20), nullable=False),  # "next", "active", "retiring"
    Column("public_jwk", Text, nullable=False),
    Column("sealed_private", LargeBinary, nullable=False, info={"sealed_for": "signing-key:{purpose}"}),
    Column("made_at_us", BigInteger, nullable=False),  # and published since
    Column("since_us", BigInteger, nullable=False),  # in this state
)

# How principals prove who they are, and what was given to them. Secrets are digests; times are epoch seconds.

CLIENT: Final = table(
    "oauth_client",
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("facts", Text, nullable=False),  # JSON: identity.clients.Terms
    Column("until_s", BigInteger, nullable=False),  # from then on it is refused
    Column("backchannel_logout_uri", Text, nullable=False),  # as the facts have it, to be asked for
)

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
    Column("place", String(64), nullable=False),  # the address it was begun from, and what the browser called itself
    Column("agent", String(120), nullable=False),
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

OUTBOX: Final = (
    table(  # what is still to be told outside, the oldest first: put there in the transaction that it tells of
        "outbox",
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column(
            "receiver", String(200), nullable=False, index=True
        ),  # a client, of a session's end; the webhook, of an alert
        Column("body", Text, nullable=False),  # JSON
        Column("tries", Integer, nullable=False, default=0),
        Column("due_at_s", BigInteger, nullable=False, default=0),  # when it is tried next: at once
    )
)

# What passed the guard and may matter to duties kept apart later.

GUARD_HISTORY: Final = table(
    "guard_history",
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("system", String(100), nullable=False),
    Column("object", String(200), nullable=False),
    Column("record", String(200), nullable=False),  # the ERP's id of the record
    Column("permission", String(300), nullable=False),  # Operation.permission: the intent, allowed and sent on
    Column("person", String(200), nullable=False),  # the human behind the caller
    Column("at_us", BigInteger, nullable=False, index=True),
    Index("guard_history_record", "system", "object", "record", "at_us"),
)

GUARD_KEY: Final = table(
    "guard_key",
    Column("system", String(100), primary_key=True),
    Column("login", String(200), primary_key=True),  # the ERP user whose key it is
    Column("sealed_key", LargeBinary, nullable=False, info={"sealed_for": "erp-key:{system}:{login}"}),
)

# Revisions of the policy: every one that was ever applied, kept whole; and what waits for a second person.

FAILED_MAX_CHARS: Final = 100
REVISION: Final = table(
    "revision",
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("revision", String(40), nullable=False),  # the plan's content hash
    Column("file", String(500), nullable=False),
    Column("text", Text, nullable=False),
    Column("files", Text, nullable=False, server_default="{}"),  # that belong to it: path -> text, as JSON
    Column("plan", Text, nullable=False),  # plan.model.to_json
    Column("actor", String(200), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("approvals", Text, nullable=False, server_default="[]"),  # JSON: who else said yes
    Column("proof", Text, nullable=False, server_default="{}"),  # JSON: what was checked before it came into force
    Column("failed", String(FAILED_MAX_CHARS)),  # why it did not come into force; NULL where it did
)

PROPOSAL: Final = table(  # what waits for a second person, and what became of it; a role for a time is one too
    "proposal",
    Column("id", String(40), primary_key=True),
    Column("kind", String(20), nullable=False),  # "policy", "break-glass"
    Column("actor", String(200), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("content", Text, nullable=False),  # JSON: all that was shown
    Column("approvals", Text, nullable=False),  # JSON: who else said yes
    Column("state", String(20), nullable=False, index=True),  # "open", "done", "rejected", "renewed"; "begun", "ended"
    Column("principal", String(200), nullable=False, index=True),  # who has a role more, or ""
    Column("role", String(200), nullable=False),
    Column("until_s", BigInteger, nullable=False),  # so long; 0 before it begins
)

# The audit log: its leaves, and the one row whose update makes writers take turns.

AUDIT_LEAF: Final = table(
    "audit_leaf",
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),  # from 0
    Column("action", String(100), nullable=False, index=True),
    Column("entry", Text, nullable=False),  # canonical JSON: the bytes that are hashed
)

AUDIT_TREE: Final = table(
    "audit_tree",
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("size", BigInteger, nullable=False),
    Column("frontier", LargeBinary, nullable=False),  # subtrees, each 8 bytes of size and 32 of root
)

# What the watch noticed, what it did about it, and where it stopped reading.

ALERT: Final = table(
    "alert",
    Column("id", String(40), primary_key=True),
    Column("rule", String(100), nullable=False),
    Column("key", String(300), nullable=False),  # what it is about: "address:203.0.113.9", "system:erp"
    Column("open_key", String(410), unique=True),  # rule and key while it is open, NULL after: one open alert for both
    Column("severity", String(20), nullable=False),
    Column("state", String(20), nullable=False),  # "firing", "acknowledged", "resolved"
    Column("first_us", BigInteger, nullable=False),
    Column("last_us", BigInteger, nullable=False, index=True),
    Column("count", Integer, nullable=False),
    Column("evidence", Text, nullable=False),  # JSON: figures and decision ids; no paths, no bodies, no tokens
    Column("actor", String(200), nullable=False),
    Column("note", String(1000), nullable=False),
)

MEASURE: Final = table(
    "measure",
    Column("id", String(40), primary_key=True),
    Column("kind", String(20), nullable=False),  # "block"
    Column("target", String(300), nullable=False),  # a CIDR
    Column("reason", String(1000), nullable=False),
    Column("rule", String(100), nullable=False),
    Column("alert", String(40), nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger, nullable=False, index=True),
    Column("undone_by", String(200), nullable=False),  # "" while nobody undid it
    Index("measure_target", "target", "made_at_us"),
)

WATCH_STATE: Final = table(
    "watch_state",
    Column("name", String(40), primary_key=True),  # "tail", "alive"
    Column("value", LargeBinary, nullable=False),
)
