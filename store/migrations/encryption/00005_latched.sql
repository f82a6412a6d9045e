-- +goose Up
-- Which scopes have lost access since the last look is asked every second, by every
-- process.
CREATE INDEX scope_latched ON scope (serving_since) WHERE serving <> '';
