-- +goose Up

-- How far failed sign-ins have used up what is allowed, by MACs of names and addresses.
CREATE TABLE sign_in_throttle (
    key   BLOB PRIMARY KEY,
    whole INTEGER NOT NULL -- when all of it is allowed again: the row says nothing then
) STRICT;

CREATE INDEX sign_in_throttle_by_whole ON sign_in_throttle (whole);
