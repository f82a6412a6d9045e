-- +goose Up
-- How far the scrub has read, and what it has found. Times are Unix microseconds, 0
-- for never.
CREATE TABLE lake_scrub (
    one          INTEGER PRIMARY KEY, -- 1
    item         TEXT NOT NULL,       -- where it is: an item, a state of extents, and the last one read
    state        INTEGER NOT NULL,
    extent       TEXT NOT NULL,
    begun        INTEGER NOT NULL,    -- this pass
    total        INTEGER NOT NULL,    -- sealed bytes when it began
    extents      INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    unread       INTEGER NOT NULL,    -- extents whose scope's key could not be used
    ended        INTEGER NOT NULL,    -- 0 while it runs
    last_begun   INTEGER NOT NULL,    -- the last pass that ended
    last_ended   INTEGER NOT NULL,
    last_extents INTEGER NOT NULL,
    last_bytes   INTEGER NOT NULL,
    last_unread  INTEGER NOT NULL
) STRICT;

CREATE TABLE lake_damage (
    extent TEXT PRIMARY KEY,
    item   TEXT NOT NULL,
    tenant TEXT NOT NULL,
    owner  TEXT NOT NULL, -- the file, or what is staged
    found  INTEGER NOT NULL
) STRICT;

-- The scrub goes through an item's extents in the order of their ids.
DROP INDEX lake_extent_by_item;
CREATE INDEX lake_extent_by_item ON lake_extent (item, state, id, size);
