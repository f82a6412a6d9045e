-- +goose Up
-- What was scanned, and how it stood.
CREATE TABLE posture_scan (
    id       TEXT PRIMARY KEY,
    estate   TEXT NOT NULL,
    source   TEXT NOT NULL,
    at       INTEGER NOT NULL, -- Unix microseconds, as all times here
    opened   INTEGER NOT NULL,
    resolved INTEGER NOT NULL,
    summary  TEXT NOT NULL,    -- JSON
    gaps     TEXT NOT NULL     -- JSON
) STRICT;

CREATE INDEX posture_scan_by_time ON posture_scan (estate, at);

-- For how long each finding stood. What comes back has a row anew.
CREATE TABLE posture_span (
    estate     TEXT NOT NULL,
    finding    TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    resolved   INTEGER NOT NULL, -- 0 while it stands
    body       TEXT NOT NULL,    -- JSON, as it was last seen
    PRIMARY KEY (estate, finding, first_seen)
) STRICT;

CREATE INDEX posture_span_by_end ON posture_span (estate, resolved);
