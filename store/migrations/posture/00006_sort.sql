-- +goose Up
-- Findings are looked for by their resource's name too, and pages of them go by how bad
-- they are, and by their beginning, backwards.
UPDATE posture_span SET subject = LOWER(COALESCE(body ->> 'resource', '')) || ' ' || LOWER(COALESCE(body ->> 'name', ''));

-- What counts read of findings that stand, without their rows.
CREATE INDEX posture_span_standing ON posture_span (severity, excepted, control, estate) WHERE resolved = 0;

CREATE INDEX posture_span_by_severity ON posture_span (severity, estate, first_seen, finding);
CREATE INDEX posture_span_by_beginning ON posture_span (first_seen, estate, finding);
