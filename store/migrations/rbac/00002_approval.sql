-- +goose Up
-- Acts that need a second person.
CREATE TABLE approval (
    id           TEXT PRIMARY KEY,  -- UUID
    tenant       TEXT NOT NULL,
    operation    TEXT NOT NULL,     -- as the audit log calls it
    scope        TEXT NOT NULL,     -- as given
    scope_key    TEXT NOT NULL,     -- canonical form for comparing
    action       TEXT NOT NULL,     -- the right that it takes
    data         INTEGER NOT NULL,  -- 0 or 1: whether that is a data action
    digest       TEXT NOT NULL,     -- of what exactly is to be done, hexadecimal
    state        TEXT NOT NULL,
    requested_by TEXT NOT NULL,     -- object id
    requested    INTEGER NOT NULL,  -- Unix microseconds, as all times here
    expires      INTEGER NOT NULL,
    decided_by   TEXT NOT NULL,     -- object id, or empty
    decided      INTEGER NOT NULL,  -- 0 if nobody has
    executed     INTEGER NOT NULL   -- 0 if it was not
) STRICT;

CREATE INDEX approval_by_scope ON approval (scope_key);
CREATE INDEX approval_by_expiry ON approval (expires);
