-- +goose Up
-- The backups of this platform that exist, as whoever takes them tells: a key version that
-- was in use when one was made is needed to restore it. Times are in Unix microseconds.
CREATE TABLE backup_point (
    folder TEXT NOT NULL,    -- the id of the folder in which it lies
    made   INTEGER NOT NULL, -- its name there
    begun  INTEGER NOT NULL, -- its copy of the database is not older than that; 0 is not known
    ended  INTEGER NOT NULL, -- nor newer; 0 is not known
    PRIMARY KEY (folder, made)
) STRICT;
