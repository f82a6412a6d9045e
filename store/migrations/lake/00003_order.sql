-- +goose Up
-- Names are counted as a folder gets them, so that those that came after a point
-- can be asked for.
ALTER TABLE lake_folder ADD COLUMN names INTEGER NOT NULL DEFAULT 0;  -- that it was ever given
ALTER TABLE lake_entry ADD COLUMN ordinal INTEGER NOT NULL DEFAULT 0; -- which of them the entry is

CREATE INDEX lake_entry_by_ordinal ON lake_entry (folder, ordinal);
