-- +goose Up
ALTER TABLE vault ADD COLUMN flavour TEXT NOT NULL DEFAULT 'vault'; -- or managedhsm
ALTER TABLE vault ADD COLUMN admins TEXT NOT NULL DEFAULT '[]';     -- JSON array: a managed HSM's first administrators

ALTER TABLE vault_key_version ADD COLUMN curve TEXT NOT NULL DEFAULT '';
ALTER TABLE vault_key_version ADD COLUMN platform TEXT NOT NULL DEFAULT 'software'; -- where the private part lives
ALTER TABLE vault_key_version ADD COLUMN notice INTEGER NOT NULL DEFAULT 0;         -- when to tell of its expiry next; 0 if never

CREATE INDEX vault_key_version_by_notice ON vault_key_version (notice);

CREATE TABLE vault_key_rotation (
    key     TEXT PRIMARY KEY REFERENCES vault_key (id) ON DELETE CASCADE,
    policy  TEXT NOT NULL,    -- JSON
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    due     INTEGER NOT NULL  -- when the key is rotated next; 0 if never
) STRICT;

CREATE INDEX vault_key_rotation_by_due ON vault_key_rotation (due);

CREATE TABLE vault_key_usage (
    key       TEXT NOT NULL,
    version   TEXT NOT NULL,
    principal TEXT NOT NULL, -- object id
    operation TEXT NOT NULL,
    count     INTEGER NOT NULL,
    first     INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    PRIMARY KEY (key, version, principal, operation),
    FOREIGN KEY (key, version) REFERENCES vault_key_version (key, version) ON DELETE CASCADE
) STRICT;

-- Private parts outside the database whose keys are purged and that may still be there.
CREATE TABLE vault_key_remains (
    vault    TEXT NOT NULL,
    key      TEXT NOT NULL,
    version  TEXT NOT NULL,
    type     TEXT NOT NULL,
    bits     INTEGER NOT NULL,
    curve    TEXT NOT NULL,
    public   BLOB NOT NULL,
    platform TEXT NOT NULL,
    sealed   BLOB NOT NULL,
    PRIMARY KEY (key, version)
) STRICT;
