-- +goose Up
CREATE TABLE vault_subscription (
    id     TEXT PRIMARY KEY, -- UUID
    tenant TEXT NOT NULL,    -- directory id
    name   TEXT NOT NULL
) STRICT;

CREATE TABLE vault_group (
    subscription TEXT NOT NULL REFERENCES vault_subscription (id),
    name_key     TEXT NOT NULL,    -- lower case
    name         TEXT NOT NULL,    -- as given
    location     TEXT NOT NULL,
    tags         TEXT NOT NULL,    -- JSON object
    created      INTEGER NOT NULL, -- Unix microseconds, as all times here
    PRIMARY KEY (subscription, name_key)
) STRICT;

CREATE TABLE vault (
    id               TEXT PRIMARY KEY,     -- UUID, never used again
    name             TEXT NOT NULL UNIQUE, -- lower case
    tenant           TEXT NOT NULL,
    subscription     TEXT NOT NULL,
    resource_group   TEXT NOT NULL,
    location         TEXT NOT NULL,
    retention_days   INTEGER NOT NULL,
    purge_protection INTEGER NOT NULL, -- 0 or 1
    rbac             INTEGER NOT NULL, -- 0 or 1
    access_policies  TEXT NOT NULL,    -- JSON array; kept, not used
    tags             TEXT NOT NULL,    -- JSON object
    created          INTEGER NOT NULL,
    updated          INTEGER NOT NULL,
    deleted          INTEGER NOT NULL, -- 0 unless soft-deleted
    purge_at         INTEGER NOT NULL, -- 0 unless soft-deleted
    newest_change    INTEGER NOT NULL, -- the feed's newest number
    dropped_change   INTEGER NOT NULL  -- the newest number that is no longer kept
) STRICT;

CREATE INDEX vault_by_tenant ON vault (tenant, name);
CREATE INDEX vault_by_purge ON vault (purge_at);

CREATE TABLE vault_key (
    id       TEXT PRIMARY KEY, -- UUID, never used again
    vault    TEXT NOT NULL REFERENCES vault (id) ON DELETE CASCADE,
    name_key TEXT NOT NULL,    -- lower case
    name     TEXT NOT NULL,    -- as given
    current  TEXT NOT NULL,    -- version
    created  INTEGER NOT NULL,
    deleted  INTEGER NOT NULL, -- 0 unless soft-deleted
    purge_at INTEGER NOT NULL, -- 0 unless soft-deleted
    UNIQUE (vault, name_key)
) STRICT;

CREATE INDEX vault_key_by_purge ON vault_key (purge_at);

CREATE TABLE vault_key_version (
    key        TEXT NOT NULL REFERENCES vault_key (id) ON DELETE CASCADE,
    version    TEXT NOT NULL,
    ordinal    INTEGER NOT NULL, -- from 1, in the order of creation
    type       TEXT NOT NULL,
    bits       INTEGER NOT NULL,
    public     BLOB NOT NULL,    -- PKIX, DER
    operations TEXT NOT NULL,    -- JSON array
    enabled    INTEGER NOT NULL, -- 0 or 1
    not_before INTEGER NOT NULL, -- 0 if unset
    expires    INTEGER NOT NULL, -- 0 if unset
    created    INTEGER NOT NULL,
    updated    INTEGER NOT NULL,
    tags       TEXT NOT NULL,    -- JSON object
    PRIMARY KEY (key, version),
    UNIQUE (key, ordinal)
) STRICT;

-- Apart from the versions, so that only a use reads it and a purge shreds it.
CREATE TABLE vault_key_private (
    key     TEXT NOT NULL,
    version TEXT NOT NULL,
    sealed  BLOB NOT NULL, -- under the vault's root
    PRIMARY KEY (key, version),
    FOREIGN KEY (key, version) REFERENCES vault_key_version (key, version) ON DELETE CASCADE
) STRICT;

CREATE TABLE vault_change (
    vault     TEXT NOT NULL REFERENCES vault (id) ON DELETE CASCADE,
    seq       INTEGER NOT NULL,
    key       TEXT NOT NULL, -- name, or empty
    principal TEXT NOT NULL, -- object id, or empty
    kind      TEXT NOT NULL,
    time      INTEGER NOT NULL,
    PRIMARY KEY (vault, seq)
) STRICT;
