-- +goose Up
-- Times are Unix microseconds and lengths of time microseconds; 0 stands for none.
ALTER TABLE scope ADD COLUMN bound INTEGER NOT NULL DEFAULT 0;     -- the most that a lease may be, by the workspace's admin
ALTER TABLE scope ADD COLUMN key_bound INTEGER NOT NULL DEFAULT 0; -- the same, by the key's tag
ALTER TABLE scope ADD COLUMN key_lost INTEGER NOT NULL DEFAULT 0;  -- since when its admin says that the key is lost
ALTER TABLE scope ADD COLUMN findings TEXT NOT NULL DEFAULT '';    -- what is wrong with the key, though it serves
ALTER TABLE scope ADD COLUMN verified INTEGER NOT NULL DEFAULT 0;  -- when that was last looked at
