-- +goose Up
-- Users are principals with a name to sign in with and a password, and without an
-- application: that column, which is unique, then repeats the id.
ALTER TABLE principal ADD COLUMN user_name TEXT; -- lower case; NULL of what is no user

CREATE UNIQUE INDEX principal_by_user_name ON principal (tenant, user_name);

CREATE TABLE user_password (
    principal TEXT PRIMARY KEY REFERENCES principal (id),
    tenant    TEXT NOT NULL,
    hash      TEXT NOT NULL, -- PHC string of Argon2id
    since     INTEGER NOT NULL
) STRICT;

CREATE TABLE sign_in ( -- of a user at a client: a code, and the refresh tokens that came of it
    id         TEXT PRIMARY KEY, -- UUID, sid of ID tokens
    tenant     TEXT NOT NULL,
    principal  TEXT NOT NULL REFERENCES principal (id),
    client     TEXT NOT NULL,
    generation INTEGER NOT NULL, -- of the principal: void when it has grown
    redirect   TEXT NOT NULL,
    scope      TEXT NOT NULL,
    challenge  TEXT NOT NULL,    -- SHA-256 of the verifier (RFC 7636), in base64url
    nonce      TEXT NOT NULL,
    created    INTEGER NOT NULL,
    expires    INTEGER NOT NULL,
    serial     INTEGER NOT NULL, -- of the refresh token in force; 0 while the code is unused
    rotated    INTEGER NOT NULL  -- when that one was made
) STRICT;

CREATE INDEX sign_in_by_expiry ON sign_in (expires);
