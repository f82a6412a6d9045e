-- +goose Up
-- Where rights on the scope are given, if that is not /workspaces/ID. It does not
-- change.
ALTER TABLE scope ADD COLUMN path TEXT NOT NULL DEFAULT '';
