-- +goose Up

-- For a page of a scope's items, by id: without it a page sorts them all, or walks those
-- of other scopes.
CREATE INDEX item_state_by_id ON item_state (scope, item);
