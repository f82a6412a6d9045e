-- +goose Up
-- An assignment may end by itself.
ALTER TABLE role_assignment ADD COLUMN expires INTEGER NOT NULL DEFAULT 0; -- Unix microseconds; 0 for never
