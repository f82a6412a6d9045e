-- +goose Up
ALTER TABLE account ADD COLUMN blob_service TEXT NOT NULL DEFAULT '{}'; -- JSON
