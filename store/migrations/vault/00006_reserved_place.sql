-- +goose Up

-- Beside what purged keys have left, this holds the places of keys that are being made.
ALTER TABLE vault_key_remains ADD COLUMN due INTEGER NOT NULL DEFAULT 0; -- when to destroy what no key has taken by then; 0: at once, and no key takes it
