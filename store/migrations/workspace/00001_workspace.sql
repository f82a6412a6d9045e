-- +goose Up
-- Times are Unix microseconds; 0 stands for none.
CREATE TABLE tenant_setting (
    tenant     TEXT NOT NULL,
    name       TEXT NOT NULL,
    enabled    INTEGER NOT NULL,
    changed    INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT;

CREATE TABLE workspace (
    id              TEXT PRIMARY KEY REFERENCES scope (id),
    tenant          TEXT NOT NULL,
    name            TEXT NOT NULL,    -- display name, visible
    canonical       TEXT NOT NULL,    -- the form by which names compare
    capacity        TEXT NOT NULL,
    deleted         INTEGER NOT NULL, -- its items are being shredded
    created         INTEGER NOT NULL,
    description_key TEXT REFERENCES item_key (id),
    description     BLOB              -- sealed
) STRICT;

CREATE UNIQUE INDEX workspace_by_name ON workspace (tenant, canonical) WHERE deleted = 0;
CREATE INDEX workspace_by_tenant ON workspace (tenant, id);
CREATE INDEX workspace_deleted ON workspace (id) WHERE deleted = 1;
CREATE INDEX workspace_by_description_key ON workspace (description_key);

-- The folder row of a workspace's list of items: the namespace key, and the salt,
-- that entries are under, and while it is re-sealed those to come.
CREATE TABLE item_list (
    workspace TEXT PRIMARY KEY REFERENCES workspace (id),
    key       TEXT NOT NULL REFERENCES item_key (id),
    salt      BLOB NOT NULL,
    next_key  TEXT REFERENCES item_key (id),
    next_salt BLOB,
    seals     INTEGER NOT NULL -- records sealed under the salt, or under next_salt if there is one
) STRICT;

CREATE INDEX item_list_by_key ON item_list (key);
CREATE INDEX item_list_by_next_key ON item_list (next_key);

CREATE TABLE item_entry (
    id        TEXT PRIMARY KEY REFERENCES item_state (item),
    workspace TEXT NOT NULL REFERENCES workspace (id),
    type      TEXT NOT NULL,
    state     TEXT NOT NULL,    -- 'creating', 'live' or 'deleted'
    since     INTEGER NOT NULL, -- of the state
    key       TEXT NOT NULL REFERENCES item_key (id), -- a names key of the scope's own item
    lookup    BLOB NOT NULL,    -- HMAC of type and canonical name
    revision  INTEGER NOT NULL, -- counts the record's seals
    record    BLOB NOT NULL,    -- sealed listing record: name, description, type
    created   INTEGER NOT NULL,
    changed   INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX item_entry_by_name ON item_entry (workspace, lookup) WHERE state <> 'deleted';
CREATE INDEX item_entry_by_workspace ON item_entry (workspace, id);
CREATE INDEX item_entry_by_key ON item_entry (key, workspace, id);
CREATE INDEX item_entry_not_live ON item_entry (state, since) WHERE state <> 'live';

CREATE TABLE item_definition (
    item   TEXT PRIMARY KEY REFERENCES item_entry (id),
    key    TEXT NOT NULL REFERENCES item_key (id), -- the item's content key
    sealed BLOB NOT NULL
) STRICT;

CREATE INDEX item_definition_by_key ON item_definition (key);
