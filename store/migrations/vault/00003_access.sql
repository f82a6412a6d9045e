-- +goose Up
-- From where a vault can be reached, and by whom from everywhere: JSON. A vault
-- that had no rules was open, and stays so.
ALTER TABLE vault ADD COLUMN network TEXT NOT NULL DEFAULT '{"bypass":true}';
ALTER TABLE vault ADD COLUMN trusted_services TEXT NOT NULL DEFAULT '["61d6811f-7544-4e75-a1e6-1c59c0383311"]';
ALTER TABLE vault ADD COLUMN require_approval INTEGER NOT NULL DEFAULT 0; -- 0 or 1
ALTER TABLE vault ADD COLUMN separate_duties INTEGER NOT NULL DEFAULT 0;  -- 0 or 1

CREATE TABLE vault_diagnostic_setting (
    vault    TEXT NOT NULL REFERENCES vault (id) ON DELETE CASCADE,
    name_key TEXT NOT NULL, -- lower case
    name     TEXT NOT NULL, -- as given
    sink     TEXT NOT NULL, -- resource id of the destination
    logs     TEXT NOT NULL, -- JSON array: what is sent there
    updated  INTEGER NOT NULL,
    PRIMARY KEY (vault, name_key)
) STRICT;
