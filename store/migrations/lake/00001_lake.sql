-- +goose Up
-- Ids are 32 hexadecimal digits, times Unix microseconds; 0 stands for none.
-- Every row that names a key holds it by a foreign key.

-- A folder as the holder of names. Its place in the tree is its entry's.
CREATE TABLE lake_folder (
    id       TEXT PRIMARY KEY,
    item     TEXT NOT NULL,
    role     TEXT NOT NULL, -- '' if an entry names it, 'root', 'uploads' or 'deleted'
    salt     BLOB NOT NULL, -- 24 bytes
    key      TEXT NOT NULL REFERENCES item_key (id),
    next_key TEXT REFERENCES item_key (id), -- while entries are brought under it
    seals    INTEGER NOT NULL -- records sealed under the salt and the key that seals
) STRICT;

CREATE UNIQUE INDEX lake_folder_special ON lake_folder (item, role) WHERE role IN ('root', 'uploads');
CREATE INDEX lake_folder_deleted ON lake_folder (item) WHERE role = 'deleted';
CREATE INDEX lake_folder_by_item ON lake_folder (item);
CREATE INDEX lake_folder_by_key ON lake_folder (key);
CREATE INDEX lake_folder_by_next_key ON lake_folder (next_key);

-- A name in a folder. The id is that of the folder or file that has the name.
CREATE TABLE lake_entry (
    id       TEXT PRIMARY KEY,
    folder   TEXT NOT NULL REFERENCES lake_folder (id),
    kind     INTEGER NOT NULL, -- 1 file, 2 folder
    key      TEXT NOT NULL REFERENCES item_key (id),
    lookup   BLOB NOT NULL,    -- MAC of the name
    revision INTEGER NOT NULL, -- counts the record's seals
    record   BLOB NOT NULL     -- sealed listing record
) STRICT;

CREATE UNIQUE INDEX lake_entry_by_name ON lake_entry (folder, lookup);
CREATE INDEX lake_entry_by_key ON lake_entry (key, folder);

-- Properties and content of what an entry names.
CREATE TABLE lake_node (
    id       TEXT PRIMARY KEY,
    item     TEXT NOT NULL,
    kind     INTEGER NOT NULL,
    key      TEXT NOT NULL REFERENCES item_key (id),
    size     INTEGER NOT NULL, -- bytes of content
    modified INTEGER NOT NULL,
    manifest BLOB NOT NULL     -- sealed
) STRICT;

CREATE INDEX lake_node_by_item ON lake_node (item, kind, key, size);
CREATE INDEX lake_node_by_key ON lake_node (key);

-- Content that is not part of a file yet.
CREATE TABLE lake_staged (
    id       TEXT PRIMARY KEY,
    item     TEXT NOT NULL,
    owner    TEXT NOT NULL,    -- the file or upload; '' while bytes still arrive
    key      TEXT NOT NULL REFERENCES item_key (id),
    ordinal  INTEGER NOT NULL, -- order of arrival
    position INTEGER NOT NULL, -- where an append begins
    size     INTEGER NOT NULL,
    record   BLOB NOT NULL,    -- sealed: block id, extents
    changed  INTEGER NOT NULL
) STRICT;

CREATE INDEX lake_staged_by_owner ON lake_staged (owner, ordinal);
CREATE INDEX lake_staged_by_item ON lake_staged (item);
CREATE INDEX lake_staged_by_key ON lake_staged (key);
CREATE INDEX lake_staged_by_time ON lake_staged (changed);

-- Immutable runs of sealed bytes, in the row or in an object with the row's id.
CREATE TABLE lake_extent (
    id      TEXT PRIMARY KEY,
    item    TEXT NOT NULL,
    key     TEXT NOT NULL REFERENCES item_key (id),
    owner   TEXT NOT NULL,    -- the file, or what is staged
    state   INTEGER NOT NULL, -- 0 staged, 1 live, 2 doomed
    size    INTEGER NOT NULL, -- sealed bytes; 0 while they are written
    changed INTEGER NOT NULL,
    due     INTEGER NOT NULL, -- when a doomed one goes
    inline  BLOB              -- NULL if the bytes are in an object
) STRICT;

CREATE INDEX lake_extent_by_owner ON lake_extent (owner);
CREATE INDEX lake_extent_by_item ON lake_extent (item, state);
CREATE INDEX lake_extent_by_key ON lake_extent (key, state);
CREATE INDEX lake_extent_staged ON lake_extent (changed) WHERE state = 0;
CREATE INDEX lake_extent_doomed ON lake_extent (due) WHERE state = 2;
