-- +goose Up
-- How far each vault's changes have become events. The row of no vault says that
-- events are kept at all: vaults without a row are newer than it.
CREATE TABLE event_feed (
    vault TEXT PRIMARY KEY, -- id, or empty
    name  TEXT NOT NULL,
    scope TEXT NOT NULL,
    seq   INTEGER NOT NULL
) STRICT;

-- What the receivers do not have yet.
CREATE TABLE event_delivery (
    sink     TEXT NOT NULL,    -- name in the configuration
    seq      INTEGER NOT NULL, -- order among what is here
    event    TEXT NOT NULL,    -- the event's id
    type     TEXT NOT NULL,
    ordering TEXT NOT NULL,    -- deliveries with the same one go in order
    body     BLOB NOT NULL,    -- the event as it is sent
    created  INTEGER NOT NULL, -- Unix microseconds, as all times here
    attempts INTEGER NOT NULL,
    next     INTEGER NOT NULL, -- not before
    dead     INTEGER NOT NULL, -- given up at; 0 if not
    error    TEXT NOT NULL,    -- of the last attempt
    PRIMARY KEY (sink, seq),
    UNIQUE (sink, event)
) STRICT;

CREATE INDEX event_delivery_by_order ON event_delivery (sink, dead, ordering, seq);
