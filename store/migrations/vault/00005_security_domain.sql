-- +goose Up
ALTER TABLE vault ADD COLUMN activated INTEGER NOT NULL DEFAULT 0; -- a managed HSM: since when it does key operations; 0 if not yet

-- Those that were made before there were security domains go on.
UPDATE vault SET activated = created WHERE flavour = 'managedhsm';

CREATE TABLE vault_security_domain (
    vault       TEXT PRIMARY KEY REFERENCES vault (id) ON DELETE CASCADE,
    domain      TEXT NOT NULL, -- its id; '' if there is none yet
    sealed      BLOB NOT NULL, -- its key; empty if there is none yet
    quorum      INTEGER NOT NULL,
    officers    TEXT NOT NULL, -- JSON array: the thumbprints of the certificates of the last time it was taken out
    taken       INTEGER NOT NULL, -- when that was; 0 if never
    restored    INTEGER NOT NULL, -- when it was brought in; 0 if it was made here
    certificate BLOB NOT NULL, -- of the transfer key, DER; empty if there is none
    transfer    BLOB NOT NULL  -- its private part, sealed
) STRICT;
