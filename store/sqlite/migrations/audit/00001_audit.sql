-- +goose Up
CREATE TABLE audit_entry (
    seq  INTEGER PRIMARY KEY, -- position in the log, from 0
    time INTEGER NOT NULL,    -- Unix microseconds, as in the body
    body BLOB NOT NULL        -- the entry's canonical bytes: the Merkle tree's leaf
) STRICT;

CREATE TABLE audit_hash (
    idx  INTEGER PRIMARY KEY, -- stored hash index of golang.org/x/mod/sumdb/tlog
    hash BLOB NOT NULL
) STRICT;

CREATE TABLE audit_checkpoint (
    size INTEGER PRIMARY KEY, -- how many entries it covers
    time INTEGER NOT NULL,
    note BLOB NOT NULL        -- the signed note
) STRICT;
