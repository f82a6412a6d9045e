-- +goose Up
-- A client's lease on a file or folder: '' if it has none. Times are 0 for never.
ALTER TABLE lake_node ADD COLUMN lease TEXT NOT NULL DEFAULT '';
ALTER TABLE lake_node ADD COLUMN lease_length INTEGER NOT NULL DEFAULT 0; -- microseconds; 0 for good
ALTER TABLE lake_node ADD COLUMN lease_ends INTEGER NOT NULL DEFAULT 0;
ALTER TABLE lake_node ADD COLUMN lease_breaks INTEGER NOT NULL DEFAULT 0;

CREATE INDEX lake_node_leased ON lake_node (item) WHERE lease <> '';
