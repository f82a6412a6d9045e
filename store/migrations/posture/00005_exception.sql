-- +goose Up
-- Findings that somebody has accepted, for a time.
CREATE TABLE posture_exception (
    id   TEXT PRIMARY KEY,
    body TEXT NOT NULL -- JSON
) STRICT;
