-- The audit trail chains each row to the one before and refuses change; moves and runs' history are append-only too.

CREATE FUNCTION audit_hash(previous bytea, id bigint, at timestamptz, site text, actor text, action text, subject text,
                           detail jsonb) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    -- every part is length-prefixed by its JSON quoting, so no two different rows write the same text
    SELECT sha256(previous || convert_to(jsonb_build_array(id, extract(epoch FROM at), site, actor, action, subject, detail)::text,
                                         'UTF8'))
$$;

CREATE FUNCTION audit_append() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last record;
BEGIN
    -- one writer at a time until commit: the chain has no forks
    PERFORM pg_advisory_xact_lock(7216431001);
    SELECT a.id, a.hash INTO last FROM audit_trail a ORDER BY a.id DESC LIMIT 1;
    NEW.id := coalesce(last.id, 0) + 1;
    NEW.at := date_trunc('milliseconds', clock_timestamp());
    NEW.previous_hash := coalesce(last.hash, '\x00'::bytea);
    NEW.hash := audit_hash(NEW.previous_hash, NEW.id, NEW.at, NEW.site, NEW.actor, NEW.action, NEW.subject, NEW.detail);
    RETURN NEW;
END
$$;

-- What a transaction did waits here until it commits, and is chained then: after all its row locks were taken, so that
-- no two transactions can wait for each other through the chain, and for a moment only. Always empty between transactions.
CREATE TABLE audit_pending (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site     text NOT NULL,
    actor    text NOT NULL,
    action   text NOT NULL,
    subject  text NOT NULL,
    detail   jsonb NOT NULL DEFAULT '{}'
);

CREATE FUNCTION audit_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_trail (site, actor, action, subject, detail)
    VALUES (NEW.site, NEW.actor, NEW.action, NEW.subject, NEW.detail);
    DELETE FROM audit_pending WHERE id = NEW.id;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER audit_at_commit AFTER INSERT ON audit_pending DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_commit();

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER audit_chain BEFORE INSERT ON audit_trail FOR EACH ROW EXECUTE FUNCTION audit_append();
CREATE TRIGGER audit_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_trail
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER move_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON move
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION announce_worklist() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('worklist', NEW.site);
    RETURN NULL;
END
$$;
CREATE TRIGGER worklist_changed AFTER INSERT OR UPDATE ON worklist_entry
    FOR EACH ROW EXECUTE FUNCTION announce_worklist();
