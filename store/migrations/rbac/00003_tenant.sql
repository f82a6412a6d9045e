-- +goose Up
-- An object id is a directory's own: two tenants may have the same, and neither
-- learns of the other's by it.
CREATE TABLE role_assignment_2 (
    id              TEXT PRIMARY KEY, -- UUID
    tenant          TEXT NOT NULL,
    principal       TEXT NOT NULL,    -- object id
    principal_type  TEXT NOT NULL,
    role_definition TEXT NOT NULL,    -- UUID of the definition
    scope           TEXT NOT NULL,    -- as given
    scope_key       TEXT NOT NULL,    -- canonical form for comparing
    created         INTEGER NOT NULL, -- Unix microseconds
    created_by      TEXT NOT NULL,
    UNIQUE (tenant, principal, role_definition, scope_key)
) STRICT;

INSERT INTO role_assignment_2 (id, tenant, principal, principal_type, role_definition, scope, scope_key, created, created_by)
    SELECT id, tenant, principal, principal_type, role_definition, scope, scope_key, created, created_by FROM role_assignment;
DROP TABLE role_assignment;
ALTER TABLE role_assignment_2 RENAME TO role_assignment;

CREATE INDEX role_assignment_by_scope ON role_assignment (scope_key);
CREATE INDEX role_assignment_by_principal ON role_assignment (principal, scope_key);
