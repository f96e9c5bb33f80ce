-- The rows that remember: messages, orders, studies, worklist entries, runs, deliveries and the audit trail.

CREATE TABLE inbound_message (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site         text NOT NULL,
    peer         text NOT NULL,
    protocol     text NOT NULL CHECK (protocol IN ('hl7', 'fhir', 'dicom')),
    received_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    sender       text NOT NULL DEFAULT '',
    control_id   text NOT NULL DEFAULT '',
    kind         text NOT NULL DEFAULT '',
    body         bytea NOT NULL,
    body_sha256  bytea NOT NULL,
    outcome      text NOT NULL DEFAULT 'received'
                 CHECK (outcome IN ('received', 'applied', 'unchanged', 'ignored', 'parked', 'rejected')),
    reason       text NOT NULL DEFAULT '',
    settled_at   timestamptz,
    repeats      integer NOT NULL DEFAULT 0,
    attempts     integer NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX inbound_message_once ON inbound_message (site, protocol, sender, control_id, body_sha256);
CREATE INDEX inbound_message_stuck ON inbound_message (outcome, id) WHERE outcome IN ('received', 'parked', 'rejected');

CREATE TABLE imaging_order (
    id                     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site                   text NOT NULL,
    order_key              text NOT NULL,
    status                 text NOT NULL CHECK (status IN ('active', 'on-hold', 'cancelled', 'completed')),
    placer_order_number    text NOT NULL DEFAULT '',
    filler_order_number    text NOT NULL DEFAULT '',
    accession_number       text NOT NULL DEFAULT '',
    issuer_of_accession    text NOT NULL DEFAULT '',
    study_instance_uid     text NOT NULL DEFAULT '',
    patient_id             text NOT NULL DEFAULT '',
    patient_issuer         text NOT NULL DEFAULT '',
    patient_name           text NOT NULL DEFAULT '',
    patient_birth_date     date,
    patient_sex            text NOT NULL DEFAULT '',
    procedure              jsonb NOT NULL DEFAULT '[]',
    modality               text NOT NULL DEFAULT '',
    requested_priority     text NOT NULL CHECK (requested_priority IN ('stat', 'urgent', 'routine')),
    scheduled_at           timestamptz,
    service_request        text NOT NULL DEFAULT '',
    created_at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    asked_archive_at       timestamptz,
    UNIQUE (site, order_key)
);
CREATE INDEX imaging_order_accession ON imaging_order (site, accession_number) WHERE accession_number <> '';
CREATE INDEX imaging_order_filler ON imaging_order (site, filler_order_number) WHERE filler_order_number <> '';
CREATE INDEX imaging_order_placer ON imaging_order (site, placer_order_number) WHERE placer_order_number <> '';
CREATE INDEX imaging_order_study ON imaging_order (site, study_instance_uid) WHERE study_instance_uid <> '';
CREATE INDEX imaging_order_patient ON imaging_order (site, patient_id, scheduled_at) WHERE patient_id <> '';

CREATE TABLE study (
    id                     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site                   text NOT NULL,
    study_instance_uid     text NOT NULL,
    archive                text NOT NULL,
    accession_number       text NOT NULL DEFAULT '',
    issuer_of_accession    text NOT NULL DEFAULT '',
    patient_id             text NOT NULL DEFAULT '',
    patient_issuer         text NOT NULL DEFAULT '',
    patient_name           text NOT NULL DEFAULT '',
    patient_birth_date     date,
    patient_sex            text NOT NULL DEFAULT '',
    study_at               timestamptz,
    description            text NOT NULL DEFAULT '',
    modalities             text[] NOT NULL DEFAULT '{}',
    instance_count         integer,
    first_seen_at          timestamptz NOT NULL,
    last_changed_at        timestamptz NOT NULL,
    match_outcome          text NOT NULL DEFAULT 'no-order'
        CHECK (match_outcome IN ('accession', 'study-instance-uid', 'patient-and-time', 'by-person',
                                 'no-order', 'ambiguous', 'patient-differs')),
    UNIQUE (site, study_instance_uid)
);
CREATE INDEX study_accession ON study (site, accession_number) WHERE accession_number <> '';
CREATE INDEX study_patient ON study (site, patient_id) WHERE patient_id <> '';

CREATE TABLE instance (
    study_id             bigint NOT NULL REFERENCES study (id),
    sop_instance_uid     text NOT NULL,
    series_instance_uid  text NOT NULL,
    sop_class_uid        text NOT NULL DEFAULT '',
    first_seen_at        timestamptz NOT NULL,
    facts                jsonb,
    refusal              text NOT NULL DEFAULT '',
    PRIMARY KEY (study_id, sop_instance_uid)
);

CREATE TABLE worklist_entry (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site                text NOT NULL,
    order_id            bigint REFERENCES imaging_order (id),
    study_id            bigint UNIQUE REFERENCES study (id),
    requested_priority  text NOT NULL CHECK (requested_priority IN ('stat', 'urgent', 'routine')),
    ai_state            text NOT NULL
        CHECK (ai_state IN ('awaiting-images', 'queued', 'assessing', 'flagged', 'not-flagged', 'not-eligible',
                            'failed', 'timed-out', 'superseded', 'withdrawn')),
    ai_reason           text NOT NULL DEFAULT '',
    reading_state       text NOT NULL CHECK (reading_state IN ('unread', 'reading', 'reported', 'cancelled')),
    claimed_by          text NOT NULL DEFAULT '',
    claimed_at          timestamptz,
    eligible_at         timestamptz,
    lane                smallint CHECK (lane IN (0, 1, 2)),
    read_by             timestamptz,
    placed_because      text NOT NULL DEFAULT 'clinical'
        CHECK (placed_because IN ('clinical', 'flagged', 'override', 'order-changed')),
    attempt             integer NOT NULL DEFAULT 0,
    attempts_left       integer NOT NULL DEFAULT 15,
    assess_after        timestamptz,
    lease_until         timestamptz,
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((eligible_at IS NULL) = (lane IS NULL) AND (lane IS NULL) = (read_by IS NULL)),
    CHECK (eligible_at IS NULL OR study_id IS NOT NULL),
    CHECK (order_id IS NOT NULL OR study_id IS NOT NULL)
) WITH (fillfactor = 80);
-- the reading list of one lane is one range of this index
CREATE INDEX worklist_reading ON worklist_entry (site, lane, read_by, eligible_at, id)
    WHERE reading_state = 'unread' AND eligible_at IS NOT NULL;
CREATE INDEX worklist_claimed ON worklist_entry (site, claimed_at) WHERE reading_state = 'reading';
CREATE INDEX worklist_to_assess ON worklist_entry (lane, read_by, id) WHERE ai_state = 'queued';
CREATE INDEX worklist_assessing ON worklist_entry (lease_until) WHERE ai_state = 'assessing';
CREATE INDEX worklist_awaiting ON worklist_entry (site, created_at) WHERE ai_state = 'awaiting-images';
CREATE INDEX worklist_order ON worklist_entry (order_id);
CREATE INDEX worklist_stuck ON worklist_entry (site, ai_state, id)
    WHERE ai_state IN ('failed', 'timed-out', 'not-eligible');

-- how many lane-1 places were handed out since the last lane-2 one; one row a site, locked while a study is assigned
CREATE TABLE reading_share (
    site                      text PRIMARY KEY,
    expedited_since_ordinary  integer NOT NULL DEFAULT 0
);

CREATE TABLE move (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entry_id      bigint NOT NULL REFERENCES worklist_entry (id),
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    from_lane     smallint,
    from_read_by  timestamptz,
    to_lane       smallint NOT NULL,
    to_read_by    timestamptz NOT NULL,
    actor         text NOT NULL,
    reason        text NOT NULL
);
CREATE INDEX move_entry ON move (entry_id, id);

CREATE TABLE run (
    id             uuid PRIMARY KEY,
    entry_id       bigint NOT NULL REFERENCES worklist_entry (id),
    study_id       bigint NOT NULL REFERENCES study (id),
    run_number     integer NOT NULL,
    attempt        integer NOT NULL,
    started_at     timestamptz,
    ended_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome        text NOT NULL CHECK (outcome IN ('assessed', 'not-eligible', 'failed', 'timed-out')),
    reason         text NOT NULL DEFAULT '',
    assessment     jsonb,
    is_flagged     boolean NOT NULL DEFAULT false,
    is_current     boolean NOT NULL DEFAULT true,
    is_withdrawn   boolean NOT NULL DEFAULT false,
    last_updated   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((outcome = 'assessed') = (assessment IS NOT NULL)),
    UNIQUE (entry_id, run_number)
);
CREATE UNIQUE INDEX run_one_current ON run (entry_id) WHERE is_current;
CREATE INDEX run_updated ON run (last_updated, id) WHERE assessment IS NOT NULL;
CREATE INDEX run_study ON run (study_id, run_number);

CREATE TABLE delivery (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id           uuid NOT NULL REFERENCES run (id),
    destination      text NOT NULL,
    kind             text NOT NULL DEFAULT 'result' CHECK (kind IN ('result', 'withdrawal')),
    control_id       text NOT NULL UNIQUE,
    state            text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'sending', 'delivered', 'parked', 'superseded')),
    body             bytea,
    attempts         integer NOT NULL DEFAULT 0,
    next_attempt_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until      timestamptz,
    reason           text NOT NULL DEFAULT '',
    acknowledged_as  text NOT NULL DEFAULT '',
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at     timestamptz,
    UNIQUE (run_id, destination, kind)
);
CREATE INDEX delivery_due ON delivery (next_attempt_at, id) WHERE state = 'due';
CREATE INDEX delivery_sending ON delivery (lease_until) WHERE state = 'sending';
CREATE INDEX delivery_parked ON delivery (id) WHERE state = 'parked';

CREATE TABLE label (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entry_id    bigint NOT NULL REFERENCES worklist_entry (id),
    class       text NOT NULL CHECK (class IN ('normal', 'pneumonia', 'covid', 'other')),
    source      text NOT NULL,
    given_by    text NOT NULL,
    saw_the_ai  boolean NOT NULL,
    given_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX label_entry ON label (entry_id, id);

CREATE TABLE sweep_mark (
    site        text NOT NULL,
    peer        text NOT NULL,
    mark        timestamptz NOT NULL,
    swept_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    failure     text NOT NULL DEFAULT '',
    PRIMARY KEY (site, peer)
);

CREATE TABLE unreadable_file (
    site           text NOT NULL,
    archive        text NOT NULL,
    name_sha256    bytea NOT NULL,
    reason         text NOT NULL,
    first_seen_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (site, archive, name_sha256)
);

CREATE TABLE audit_trail (
    id             bigint PRIMARY KEY,
    at             timestamptz NOT NULL,
    site           text NOT NULL,
    actor          text NOT NULL,
    action         text NOT NULL,
    subject        text NOT NULL,
    detail         jsonb NOT NULL DEFAULT '{}',
    previous_hash  bytea NOT NULL,
    hash           bytea NOT NULL
);
CREATE INDEX audit_trail_subject ON audit_trail (subject, id);
