-- +goose Up
ALTER TABLE vault_change ADD COLUMN version TEXT NOT NULL DEFAULT ''; -- of the key, or empty
