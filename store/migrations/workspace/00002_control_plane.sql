-- +goose Up
-- Times are Unix microseconds; 0 stands for none, as '' does for a missing id.
ALTER TABLE workspace ADD COLUMN domain TEXT NOT NULL DEFAULT '';
ALTER TABLE workspace ADD COLUMN label TEXT NOT NULL DEFAULT '';

-- Entries lie in folders and carry labels. A folder is an entry too, whose name is
-- sealed as an item's is; it has no keys of its own, and so refers to none.
CREATE TABLE item_entry_2 (
    id        TEXT PRIMARY KEY,
    workspace TEXT NOT NULL REFERENCES workspace (id),
    type      TEXT NOT NULL,    -- an item type, or 'Folder'
    state     TEXT NOT NULL,    -- 'creating', 'live' or 'deleted'
    since     INTEGER NOT NULL, -- of the state
    key       TEXT NOT NULL REFERENCES item_key (id), -- a names key of the scope's own item
    lookup    BLOB NOT NULL,    -- HMAC of type (of a folder, with its parent) and canonical name
    revision  INTEGER NOT NULL, -- counts the record's seals
    record    BLOB NOT NULL,    -- sealed listing record: name, description, type
    created   INTEGER NOT NULL,
    changed   INTEGER NOT NULL,
    folder    TEXT NOT NULL,    -- the entry that it lies in, '' for the workspace itself
    label     TEXT NOT NULL
) STRICT;

INSERT INTO item_entry_2 SELECT id, workspace, type, state, since, key, lookup, revision, record, created, changed, '', ''
    FROM item_entry;

CREATE TABLE item_definition_2 (
    item   TEXT PRIMARY KEY REFERENCES item_entry_2 (id),
    key    TEXT NOT NULL REFERENCES item_key (id), -- the item's content key
    sealed BLOB NOT NULL
) STRICT;

INSERT INTO item_definition_2 SELECT item, key, sealed FROM item_definition;

DROP TABLE item_definition;
DROP TABLE item_entry;
ALTER TABLE item_entry_2 RENAME TO item_entry;
ALTER TABLE item_definition_2 RENAME TO item_definition;

CREATE INDEX item_definition_by_key ON item_definition (key);
CREATE UNIQUE INDEX item_entry_by_name ON item_entry (workspace, lookup) WHERE state <> 'deleted';
CREATE INDEX item_entry_by_workspace ON item_entry (workspace, id);
CREATE INDEX item_entry_by_key ON item_entry (key, workspace, id);
CREATE INDEX item_entry_not_live ON item_entry (state, since) WHERE state <> 'live';
CREATE INDEX item_entry_by_folder ON item_entry (folder) WHERE folder <> '';

-- Classification labels, and domains of workspaces. Their names are the tenant's,
-- of no scope, and not sealed.
CREATE TABLE label (
    id           TEXT PRIMARY KEY,
    tenant       TEXT NOT NULL,
    name         TEXT NOT NULL,
    canonical    TEXT NOT NULL,
    requires_cmk INTEGER NOT NULL, -- what carries it must lie under a customer's key
    created      INTEGER NOT NULL,
    UNIQUE (tenant, canonical)
) STRICT;

CREATE TABLE domain (
    id          TEXT PRIMARY KEY,
    tenant      TEXT NOT NULL,
    name        TEXT NOT NULL,
    canonical   TEXT NOT NULL,
    description TEXT NOT NULL,
    label       TEXT NOT NULL,
    created     INTEGER NOT NULL,
    UNIQUE (tenant, canonical)
) STRICT;

CREATE INDEX workspace_by_domain ON workspace (domain) WHERE domain <> '';

-- Long-running operations: what was asked for, not what came of it, which is read
-- where it lies.
CREATE TABLE operation (
    id         TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    principal  TEXT NOT NULL,
    kind       TEXT NOT NULL,
    workspace  TEXT NOT NULL,
    item       TEXT NOT NULL,
    generation INTEGER NOT NULL, -- of the scope's key that it waits for, 0 for none
    created    INTEGER NOT NULL,
    ended      INTEGER NOT NULL, -- 0 while it runs
    failure    TEXT NOT NULL     -- reason, '' for none
) STRICT;

CREATE INDEX operation_by_age ON operation (created);

-- Runs of an item's jobs, and what they logged, sealed under the item's content key.
CREATE TABLE item_job (
    id      TEXT PRIMARY KEY,
    item    TEXT NOT NULL REFERENCES item_entry (id),
    type    TEXT NOT NULL,
    invoked TEXT NOT NULL,
    status  TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended   INTEGER NOT NULL
) STRICT;

CREATE INDEX item_job_by_item ON item_job (item, id);

CREATE TABLE item_job_log (
    job    TEXT NOT NULL REFERENCES item_job (id),
    number INTEGER NOT NULL,
    item   TEXT NOT NULL,
    key    TEXT NOT NULL REFERENCES item_key (id),
    sealed BLOB NOT NULL,
    PRIMARY KEY (job, number)
) STRICT;

CREATE INDEX item_job_log_by_item ON item_job_log (item, key);
CREATE INDEX item_job_log_by_key ON item_job_log (key);
