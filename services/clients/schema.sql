-- Every table of the services, applied by `database.Database.migrate` in one transaction under a lock.
-- It may be applied to an empty database and to any earlier version of itself: additions only, and each says
-- `if not exists`. Raise `SCHEMA_VERSION` in database.py with every change.
-- Whole events are kept as text, not jsonb: they come back byte for byte, and text takes the escape \u0000, which
-- jsonb refuses.

-- -- candidates.py ---------------------------------------------------------------------------------------------------

-- What is known of some bytes, whoever sent them.
create table if not exists content (
    sha256            text primary key,
    object_key        text not null,
    size_bytes        bigint not null,
    width             integer not null,
    height            integer not null,
    format            text not null,
    pdq               text not null,
    pdq_quality       smallint not null,
    jpeg_quantisation jsonb
);

-- Pictures that uploads may be made from. A content has at most one trusted and one untrusted row per tenant.
create table if not exists candidate (
    tenant        text not null,
    sha256        text not null references content (sha256),
    trusted       boolean not null,
    original_id   text not null,
    source        text not null,
    registered_at timestamptz not null,
    pdq           bit(256) not null,
    pdq_quality   smallint not null,
    seq           bigint generated always as identity unique,
    primary key (tenant, sha256, trusted)
);

-- Two graphs, so that a thousand copies of a viral upload cannot crowd the one trusted original out of the nearest.
-- Hashes of low quality (flat pictures) stay outside: they collide with each other and say nothing.
create index if not exists candidate_trusted_pdq on candidate
    using hnsw (pdq bit_hamming_ops) where trusted and pdq_quality >= 50;
create index if not exists candidate_upload_pdq on candidate
    using hnsw (pdq bit_hamming_ops) where not trusted and pdq_quality >= 50;
create index if not exists candidate_same_pdq on candidate (tenant, pdq);

-- The list of trusted originals, page by page, and one of them by its id.
create index if not exists candidate_trusted_newest on candidate (tenant, registered_at, sha256) where trusted;
create index if not exists candidate_trusted_id on candidate (tenant, original_id) where trusted;

-- Verified pairs. A cache: `delete from geometry where verified_at < ...` is always safe.
create table if not exists geometry (
    upload_sha256    text not null,
    candidate_sha256 text not null,
    method           text not null,
    inliers          integer not null,
    overlap          double precision not null,
    homography       double precision[],
    verified_at      timestamptz not null default now(),
    primary key (upload_sha256, candidate_sha256, method)
);

-- -- ledger.py -------------------------------------------------------------------------------------------------------

-- The authority on verdicts. Rows are only ever inserted.
create table if not exists ledger (
    tenant           text not null,
    upload_id        text not null,
    revision         integer not null,
    cause            text,
    decision         text not null,
    path             text not null,
    sha256           text,
    candidate_sha256 text,
    models           text[] not null,
    policy_version   text not null,
    judged_at        timestamptz not null,
    event            text not null,
    primary key (tenant, upload_id, revision)
);
create unique index if not exists ledger_cause on ledger (tenant, upload_id, cause) where cause is not null;
create index if not exists ledger_content on ledger (tenant, sha256, judged_at desc)
    where path not in ('rejected', 'reused', 'reviewed');

-- -- cases.py --------------------------------------------------------------------------------------------------------

-- The newest revision of each upload's verdict, for people to search.
create table if not exists verdict (
    tenant       text not null,
    upload_id    text not null,
    revision     integer not null,
    decision     text not null,
    path         text not null,
    score        double precision,
    area         double precision,
    sha256       text,
    candidate_id text,
    filename     text,
    uploaded_at  timestamptz not null,
    judged_at    timestamptz not null,
    event        text not null,
    primary key (tenant, upload_id)
);
create index if not exists verdict_newest on verdict (judged_at desc, tenant desc, upload_id desc);
create index if not exists verdict_of_tenant on verdict (tenant, judged_at desc, upload_id desc);
create index if not exists verdict_of_content on verdict (tenant, sha256);

create table if not exists verdict_history (
    tenant    text not null,
    upload_id text not null,
    revision  integer not null,
    event     text not null,
    primary key (tenant, upload_id, revision)
);

create table if not exists review (
    tenant      text not null,
    decision_id text not null,
    upload_id   text not null,
    of_revision integer not null,
    moderator   text not null,
    decision    text not null,
    decided_at  timestamptz not null,
    event       text not null,
    primary key (tenant, decision_id)
);
create index if not exists review_of_upload on review (tenant, upload_id);

create table if not exists hard_case (
    tenant   text not null,
    sha256   text not null,
    priority double precision not null,
    found_at timestamptz not null,
    event    text not null,
    primary key (tenant, sha256)
);
create index if not exists hard_case_urgent on hard_case (tenant, priority desc, found_at, sha256);

-- Which verdict brought a reason first: what makes the answer to a redelivered event the same as the first time.
create table if not exists hard_case_reason (
    tenant    text not null,
    sha256    text not null,
    reason    text not null,
    upload_id text not null,
    revision  integer not null,
    primary key (tenant, sha256, reason)
);
