-- +goose Up
CREATE TABLE audit_entry (
    seq  INTEGER PRIMARY KEY, -- position in the log, from 0
    time INTEGER NOT NULL,    -- Unix microseconds, as in the body
    body BLOB NOT NULL       -- the entry's canonical bytes: the Merkle tree's leaf
) STRICT;

CREATE INDEX audit_entry_by_time ON audit_entry (time);

CREATE TABLE audit_hash (
    idx  INTEGER PRIMARY KEY, -- stored hash index of golang.org/x/mod/sumdb/tlog
    hash BLOB NOT NULL
) STRICT;

CREATE TABLE audit_checkpoint (
    serial INTEGER PRIMARY KEY, -- as in the note
    note   BLOB NOT NULL       -- the signed note
) STRICT;
