-- +goose Up
-- What people are told, and have said to it.
CREATE TABLE posture_alert (
    id   TEXT PRIMARY KEY,
    body TEXT NOT NULL -- JSON
) STRICT;
