-- +goose Up
-- Times are Unix microseconds.
CREATE TABLE account (
    id              TEXT PRIMARY KEY REFERENCES scope (id),
    tenant          TEXT NOT NULL,
    subscription    TEXT NOT NULL, -- UUID
    resource_group  TEXT NOT NULL,
    name            TEXT NOT NULL,
    deleted         INTEGER NOT NULL, -- what lay in it is being shredded
    location        TEXT NOT NULL,
    sku             TEXT NOT NULL,
    kind            TEXT NOT NULL,
    tags            TEXT NOT NULL,    -- JSON
    identity_type   TEXT NOT NULL,
    user_identities TEXT NOT NULL,    -- resource ids, one a line
    key_identity    TEXT NOT NULL,    -- resource id of the one that the encryption names
    shared_key      INTEGER NOT NULL, -- requests may be signed with the keys
    created         INTEGER NOT NULL,
    updated         INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX account_by_name ON account (name) WHERE deleted = 0;
CREATE INDEX account_by_subscription ON account (subscription, name);
CREATE INDEX account_deleted ON account (id) WHERE deleted = 1;

-- The keys with which requests are signed.
CREATE TABLE account_key (
    account TEXT NOT NULL REFERENCES account (id),
    name    TEXT NOT NULL,    -- 'key1' or 'key2'
    serial  INTEGER NOT NULL, -- counts how often it was made
    sealed  BLOB NOT NULL,    -- 64 bytes, under the platform's root
    created INTEGER NOT NULL,
    PRIMARY KEY (account, name)
) STRICT;
