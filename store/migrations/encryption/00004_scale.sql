-- +goose Up
-- How many scopes lie under a vault's keys is asked before one more is put there.
CREATE INDEX scope_generation_kid ON scope_generation (kid) WHERE kid <> '';

-- Which scopes something is to be done about is asked every second, by every process,
-- and must not cost more the more scopes there are.
CREATE INDEX scope_not_serving ON scope (id) WHERE serving <> '';
CREATE INDEX scope_generation_changing ON scope_generation (scope) WHERE state IN ('Enabling', 'Disabling');
