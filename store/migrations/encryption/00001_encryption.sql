-- +goose Up
-- Times are Unix microseconds; 0 stands for none.
CREATE TABLE scope (
    id            TEXT PRIMARY KEY, -- UUID of the workspace or storage account
    tenant        TEXT NOT NULL,
    sealing       INTEGER NOT NULL, -- generation that seals
    epoch         INTEGER NOT NULL, -- counts changes of generation rows
    serving       TEXT NOT NULL,    -- '', 'Revoked' or 'Unreachable'
    reason        TEXT NOT NULL,
    detail        TEXT NOT NULL,
    serving_since INTEGER NOT NULL,
    serial        INTEGER NOT NULL  -- counts revocations
) STRICT;

CREATE TABLE scope_generation (
    scope          TEXT NOT NULL REFERENCES scope (id),
    number         INTEGER NOT NULL,
    mode           TEXT NOT NULL,
    state          TEXT NOT NULL,
    root_id        TEXT NOT NULL,
    algorithm      TEXT NOT NULL,
    key_identifier TEXT NOT NULL,
    kid            TEXT NOT NULL,
    epoch          INTEGER NOT NULL,
    wrapped        BLOB,          -- customer share under the KEK
    sealed         BLOB NOT NULL, -- platform share and commitment under the root
    reseal_only    INTEGER NOT NULL,
    created        INTEGER NOT NULL,
    PRIMARY KEY (scope, number)
) STRICT;

CREATE TABLE scope_link (
    scope      TEXT NOT NULL REFERENCES scope (id),
    generation INTEGER NOT NULL, -- the older
    under      INTEGER NOT NULL, -- the newer
    sealed     BLOB NOT NULL,    -- the older scope key under the newer
    key_identifier TEXT NOT NULL, -- of the older generation
    PRIMARY KEY (scope, generation)
) STRICT;

-- Key versions that ever wrapped a share of the scope.
CREATE TABLE scope_version (
    scope TEXT NOT NULL REFERENCES scope (id),
    kid   TEXT NOT NULL,
    first INTEGER NOT NULL,
    last  INTEGER NOT NULL, -- 0 while in use
    PRIMARY KEY (scope, kid)
) STRICT;

CREATE TABLE item_state (
    item        TEXT PRIMARY KEY, -- UUID; the scope's own id for its names
    scope       TEXT NOT NULL REFERENCES scope (id),
    type        TEXT NOT NULL,
    generation  INTEGER NOT NULL, -- all of the item is under it
    failed      INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL,
    files       INTEGER NOT NULL,
    total_files INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    total_bytes INTEGER NOT NULL,
    fence       INTEGER NOT NULL, -- counts who took the work over
    owner       TEXT NOT NULL,
    until       INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    next_run    INTEGER NOT NULL
) STRICT;

CREATE INDEX item_state_by_scope ON item_state (scope, generation, next_run);

-- DEKs and namespace keys. Whatever a key sealed names it, and holds its row by
-- a foreign key.
CREATE TABLE item_key (
    id         TEXT PRIMARY KEY,
    scope      TEXT NOT NULL REFERENCES scope (id),
    item       TEXT NOT NULL REFERENCES item_state (item),
    purpose    TEXT NOT NULL,
    generation INTEGER NOT NULL,
    state      TEXT NOT NULL, -- 'current', 'retiring' or 'shredded'
    sealed     BLOB,          -- NULL once shredded
    created    INTEGER NOT NULL
) STRICT;

CREATE INDEX item_key_by_item ON item_key (item);
CREATE UNIQUE INDEX item_key_current ON item_key (item, purpose) WHERE state = 'current';
CREATE INDEX item_key_by_scope ON item_key (scope);
CREATE INDEX item_key_shredded ON item_key (state) WHERE state = 'shredded';
