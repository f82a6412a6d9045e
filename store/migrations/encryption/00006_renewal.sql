-- +goose Up
-- The last renewal of a scope's key lease, for the processes that did not ask the vault
-- themselves. Times are the database's own, in Unix microseconds.
CREATE TABLE scope_renewal (
    scope      TEXT PRIMARY KEY REFERENCES scope (id),
    generation INTEGER NOT NULL,
    kid        TEXT NOT NULL,
    epoch      INTEGER NOT NULL,
    serial     INTEGER NOT NULL, -- of revocations
    ends       INTEGER NOT NULL, -- when the lease does
    mac        BLOB NOT NULL,    -- under a key of the root's, over all of the above
    asking     INTEGER NOT NULL  -- until when somebody is asking the vault, and nobody else need; 0 for none
) STRICT;
