-- The audit desk: what each run said as plain columns, labels on two time axes, baselines, samples, reports, sign-offs.

-- when a label was true at its source; given_at is when we heard of it, and both only ever grow
ALTER TABLE label
    ADD COLUMN valid_from    timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN certainty     text NOT NULL DEFAULT 'affirmed' CHECK (certainty IN ('affirmed', 'possible')),
    ADD COLUMN is_retracted  boolean NOT NULL DEFAULT false,
    ADD COLUMN message_id    bigint REFERENCES inbound_message (id);
UPDATE label SET valid_from = given_at;
CREATE INDEX label_heard ON label (given_at);
CREATE TRIGGER label_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON label
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- one row a run that ended; numbers and codes only: whose run it was is kept as a hash that joins nothing
CREATE TABLE audit_case (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id              uuid NOT NULL UNIQUE,
    entry_id            bigint NOT NULL,
    site                text NOT NULL,
    recorded_at         timestamptz NOT NULL,
    withdrawn_at        timestamptz,
    patient_key         bigint NOT NULL,
    outcome             text NOT NULL,
    refusal             text NOT NULL DEFAULT '',
    version             text NOT NULL DEFAULT '',
    card_sha256         text NOT NULL DEFAULT '',
    threshold           double precision,
    p_normal            double precision,
    p_pneumonia         double precision,
    p_covid             double precision,
    is_flagged          boolean NOT NULL DEFAULT false,
    gate_score          double precision,
    lung_area           double precision,
    activation_outside  double precision,
    requested_priority  text NOT NULL DEFAULT '',
    age_years           double precision,
    sex                 text NOT NULL DEFAULT '',
    view_position       text NOT NULL DEFAULT '',
    manufacturer        text NOT NULL DEFAULT '',
    model_name          text NOT NULL DEFAULT '',
    station_name        text NOT NULL DEFAULT '',
    image_rows          integer,
    image_columns       integer,
    statistics          real[],
    coordinates         real[]
);
CREATE INDEX audit_case_period ON audit_case (site, recorded_at);
CREATE INDEX audit_case_entry ON audit_case (entry_id, id);

-- a random part of what was not flagged is read independently: it alone tells the sensitivity without assumptions
CREATE TABLE audit_sample (
    entry_id   bigint PRIMARY KEY,
    site       text NOT NULL,
    chosen_at  timestamptz NOT NULL,
    rate       double precision NOT NULL CHECK (rate > 0 AND rate <= 1)
);

CREATE TABLE baseline (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site         text NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('external-validation', 'local-acceptance', 'published')),
    name         text NOT NULL,
    card_sha256  text NOT NULL DEFAULT '',
    frozen_at    timestamptz NOT NULL,
    frozen_by    text NOT NULL,
    body         text NOT NULL,
    body_sha256  text NOT NULL,
    UNIQUE (site, kind, body_sha256)
);
CREATE TRIGGER baseline_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON baseline
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE drift_report (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site              text NOT NULL,
    as_of             timestamptz NOT NULL,
    period_from       timestamptz NOT NULL,
    made_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    card_sha256       text NOT NULL,
    external_verdict  text NOT NULL,
    change_verdict    text NOT NULL,
    cause             text NOT NULL,
    sentence          text NOT NULL,
    body              text NOT NULL,
    page              bytea NOT NULL,
    body_sha256       text NOT NULL,
    UNIQUE (site, as_of, period_from, body_sha256)
);
CREATE INDEX drift_report_listed ON drift_report (site, as_of DESC, id DESC);
CREATE TRIGGER drift_report_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON drift_report
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- a report goes to the site's webhook until it answers
CREATE TABLE report_notice (
    report_id        bigint PRIMARY KEY REFERENCES drift_report (id),
    attempts         integer NOT NULL DEFAULT 0,
    next_attempt_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at          timestamptz,
    failure          text NOT NULL DEFAULT ''
);

-- open until a named person signs the report that raised it
CREATE TABLE drift_alarm (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site           text NOT NULL,
    report_id      bigint NOT NULL UNIQUE REFERENCES drift_report (id),
    raised_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    cause          text NOT NULL,
    falls_back     boolean NOT NULL,
    closed_at      timestamptz
);
CREATE INDEX drift_alarm_open ON drift_alarm (site) WHERE closed_at IS NULL;

CREATE TABLE sign_off (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    report_id   bigint NOT NULL REFERENCES drift_report (id),
    signed_by   text NOT NULL CHECK (signed_by <> ''),
    signed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    decision    text NOT NULL CHECK (decision IN ('continue', 'stay-in-shadow', 'investigate', 'recalibrate', 'retire')),
    rationale   text NOT NULL CHECK (rationale <> '')
);
CREATE INDEX sign_off_report ON sign_off (report_id, id);
CREATE TRIGGER sign_off_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON sign_off
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- the error budget: what part of the year's false-alarm probability each family of tests was given, never taken back
CREATE TABLE error_budget (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site       text NOT NULL,
    year       integer NOT NULL,
    family     text NOT NULL,
    alpha      double precision NOT NULL CHECK (alpha > 0),
    report_id  bigint REFERENCES drift_report (id),
    spent_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX error_budget_year ON error_budget (site, year, id);
CREATE TRIGGER error_budget_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON error_budget
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- when the reading that led to the report began, and when it ended: what the waiting-time study counts
ALTER TABLE worklist_entry ADD COLUMN opened_at timestamptz, ADD COLUMN reported_at timestamptz;
UPDATE worklist_entry SET opened_at = claimed_at WHERE reading_state = 'reading';

CREATE FUNCTION note_reading() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.reading_state = OLD.reading_state THEN
        RETURN NEW;
    END IF;
    IF NEW.reading_state = 'unread' THEN
        NEW.opened_at := NULL;
        NEW.reported_at := NULL;
    ELSIF NEW.reading_state = 'reading' THEN
        NEW.opened_at := clock_timestamp();
        NEW.reported_at := NULL;
    ELSIF NEW.reading_state = 'reported' THEN
        NEW.reported_at := clock_timestamp();
        NEW.opened_at := coalesce(NEW.opened_at, NEW.reported_at);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER worklist_reading_noted BEFORE UPDATE OF reading_state ON worklist_entry
    FOR EACH ROW EXECUTE FUNCTION note_reading();
