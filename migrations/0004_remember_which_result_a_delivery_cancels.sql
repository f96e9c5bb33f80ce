-- A destination may hold an older result than the run just before: each delivery remembers which one it cancels.

ALTER TABLE delivery ADD COLUMN cancels uuid REFERENCES run (id);
CREATE INDEX delivery_cancels ON delivery (cancels) WHERE cancels IS NOT NULL;

-- what was composed until now cancelled the latest earlier run with a result
UPDATE delivery d SET cancels = (
    SELECT p.id FROM run p JOIN run r ON r.entry_id = p.entry_id AND p.run_number < r.run_number
     WHERE r.id = d.run_id AND p.assessment IS NOT NULL AND NOT p.is_withdrawn
     ORDER BY p.run_number DESC LIMIT 1)
 WHERE d.kind = 'result';
