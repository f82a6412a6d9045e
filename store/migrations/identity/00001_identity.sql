-- +goose Up
CREATE TABLE directory_tenant (
    id      TEXT PRIMARY KEY, -- UUID
    name    TEXT NOT NULL,
    created INTEGER NOT NULL  -- Unix microseconds, as all times here
) STRICT;

CREATE TABLE principal (
    id          TEXT PRIMARY KEY, -- object id, UUID
    tenant      TEXT NOT NULL REFERENCES directory_tenant (id),
    type        TEXT NOT NULL,
    application TEXT NOT NULL,    -- client id, UUID
    name        TEXT NOT NULL,
    enabled     INTEGER NOT NULL, -- 0 or 1
    generation  INTEGER NOT NULL, -- of its tokens: earlier ones are void
    created     INTEGER NOT NULL,
    created_by  TEXT NOT NULL,
    UNIQUE (tenant, application)
) STRICT;

CREATE INDEX principal_by_name ON principal (tenant, name);

CREATE TABLE principal_change ( -- one row: how many changes principals have seen
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    serial INTEGER NOT NULL
) STRICT;

INSERT INTO principal_change (one, serial) VALUES (1, 0);

CREATE TABLE client_secret (
    id        TEXT PRIMARY KEY, -- UUID
    tenant    TEXT NOT NULL,
    principal TEXT NOT NULL REFERENCES principal (id),
    name      TEXT NOT NULL,
    hash      BLOB NOT NULL,    -- SHA-256 of 256 random bits
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL
) STRICT;

CREATE INDEX client_secret_by_principal ON client_secret (principal);

CREATE TABLE directory_role (
    tenant    TEXT NOT NULL,
    principal TEXT NOT NULL REFERENCES principal (id),
    role      TEXT NOT NULL,
    PRIMARY KEY (tenant, role, principal)
) STRICT;

CREATE TABLE signing_key (
    id      TEXT PRIMARY KEY, -- kid, UUID
    created INTEGER NOT NULL,
    ended   INTEGER,          -- NULL for the key that signs
    sealed  BLOB NOT NULL     -- PKCS #8 under the issuer's root
) STRICT;
