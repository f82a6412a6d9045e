-- +goose Up
-- What findings are asked for by, so that a page reads no more than its rows.
ALTER TABLE posture_span ADD COLUMN control TEXT NOT NULL DEFAULT '';
ALTER TABLE posture_span ADD COLUMN subject TEXT NOT NULL DEFAULT '';       -- the resource's id, in lower case
ALTER TABLE posture_span ADD COLUMN severity INTEGER NOT NULL DEFAULT 9;    -- 0 is the worst
ALTER TABLE posture_span ADD COLUMN excepted INTEGER NOT NULL DEFAULT 0;    -- 1: somebody has accepted it

UPDATE posture_span SET
    control  = COALESCE(body ->> 'control', ''),
    subject  = LOWER(COALESCE(body ->> 'resource', '')),
    severity = CASE body ->> 'severity' WHEN 'critical' THEN 0 WHEN 'high' THEN 1 WHEN 'medium' THEN 2 WHEN 'low' THEN 3 WHEN 'info' THEN 4 ELSE 9 END,
    excepted = CASE WHEN body ->> 'exception' IS NULL THEN 0 ELSE 1 END;

CREATE INDEX posture_span_by_position ON posture_span (estate, first_seen, finding);
