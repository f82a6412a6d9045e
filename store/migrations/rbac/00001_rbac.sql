-- +goose Up
CREATE TABLE role_assignment (
    id              TEXT PRIMARY KEY, -- UUID
    tenant          TEXT NOT NULL,
    principal       TEXT NOT NULL,    -- object id
    principal_type  TEXT NOT NULL,
    role_definition TEXT NOT NULL,    -- UUID of the definition
    scope           TEXT NOT NULL,    -- as given
    scope_key       TEXT NOT NULL,    -- canonical form for comparing
    created         INTEGER NOT NULL, -- Unix microseconds
    created_by      TEXT NOT NULL,
    UNIQUE (principal, role_definition, scope_key)
) STRICT;

CREATE INDEX role_assignment_by_scope ON role_assignment (scope_key);
CREATE INDEX role_assignment_by_principal ON role_assignment (principal, scope_key);
