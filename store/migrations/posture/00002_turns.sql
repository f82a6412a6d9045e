-- +goose Up
-- How a finding stood meanwhile (JSON), and what ended it.
ALTER TABLE posture_span ADD COLUMN turns TEXT NOT NULL DEFAULT '[]';
ALTER TABLE posture_span ADD COLUMN ended TEXT NOT NULL DEFAULT '';

-- The keys, vaults and grants that a scan has seen. They change seldom: scans that
-- saw the same share a row.
ALTER TABLE posture_scan ADD COLUMN register TEXT NOT NULL DEFAULT ''; -- SHA-256 of the body in hex, '' if there is none

CREATE TABLE posture_register (
    sha256 TEXT PRIMARY KEY,
    body   TEXT NOT NULL -- JSON
) STRICT;
