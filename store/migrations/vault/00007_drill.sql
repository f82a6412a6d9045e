-- +goose Up

-- Versions that drills have taken away, and when they are given back.
CREATE TABLE vault_key_drill (
    key     TEXT NOT NULL,
    version TEXT NOT NULL,
    taken   INTEGER NOT NULL, -- the version's updated: whoever changes it ends the order
    until   INTEGER NOT NULL,
    PRIMARY KEY (key, version),
    FOREIGN KEY (key, version) REFERENCES vault_key_version (key, version) ON DELETE CASCADE
) STRICT;

CREATE INDEX vault_key_drill_by_until ON vault_key_drill (until);
