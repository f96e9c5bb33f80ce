-- A placing message that comes late must not undo a change: remember which orders a change message has altered.

ALTER TABLE imaging_order ADD COLUMN changed_by_message boolean NOT NULL DEFAULT false;
