-- +goose Up
-- Who does what one process alone does, of those that share the database. It is among
-- these tables because every party has them.
CREATE TABLE turn (
    name  TEXT PRIMARY KEY, -- of the work
    owner TEXT NOT NULL,    -- the process
    until INTEGER NOT NULL, -- by the database's clock, Unix microseconds; 0 if nobody does it
    done  INTEGER NOT NULL  -- how far the work has come, for whoever goes on with it
) STRICT;
