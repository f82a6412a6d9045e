-- +goose Up
-- What a setting that is more than a switch is set to; 0 while it is off.
ALTER TABLE tenant_setting ADD COLUMN value INTEGER NOT NULL DEFAULT 0;
