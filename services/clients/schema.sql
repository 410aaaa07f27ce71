-- Every table of the services, to be read: what `migrations/versions` lead to, all in one place, held together by a test.
-- Nothing applies this file but that test. With a change here comes a revision there
-- (docs/decisions/0034-migrations.md).
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
create index if not exists content_of_pdq on content (pdq);

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

-- -- stoplist.py ----------------------------------------------------------------------------------------------------

-- What lookup does not take for a candidate: flat pictures (one entry a tenant, without a hash), and everything within
-- `radius` of a hash whose neighbourhood is crowded or that an operator named. `trusted` null: originals and uploads.
-- An entry that an operator lifted stays, so that it is not made again.
create table if not exists stop_entry (
    id         bigint generated always as identity primary key,
    tenant     text not null,
    reason     text not null check (reason in ('flat', 'crowded', 'manual')),
    trusted    boolean,
    pdq        bit(256),
    radius     smallint,
    seen       integer not null,
    note       text not null default '',
    lifted     boolean not null default false,
    created_at timestamptz not null default now(),
    check ((pdq is null) = (reason = 'flat') and (pdq is null) = (radius is null))
);
create index if not exists stop_entry_of_tenant on stop_entry (tenant);
create unique index if not exists stop_entry_flat on stop_entry (tenant) where reason = 'flat';

-- Which entry stops a picture. Few are stopped, so that the graphs above are searched as before and stopped pictures
-- passed over; those that are very near are looked for in a small graph of their own.
alter table candidate add column if not exists stopped_by bigint references stop_entry (id);
create index if not exists candidate_stopped on candidate (stopped_by) where stopped_by is not null;
create index if not exists candidate_stopped_pdq on candidate
    using hnsw (pdq bit_hamming_ops) where stopped_by is not null and pdq_quality >= 50;

-- -- embeddings.py ---------------------------------------------------------------------------------------------------

-- Who makes vectors, `<name>-<version>`. Vectors of two embedders live side by side while the library is embedded anew;
-- `id` names the tables of each. See docs/decisions/0018-embeddings-beside-pdq.md.
create table if not exists embedder (
    id         smallint generated always as identity unique,
    name       text primary key,
    dimensions smallint not null check (dimensions between 1 and 4000),
    state      text not null default 'building' check (state in ('building', 'active', 'retired')),
    created_at timestamptz not null default now()
);
create unique index if not exists embedder_active on embedder (state) where state = 'active';

-- Vectors of registered pictures, one a region (core/intake/regions.py). A picture that is removed or withdrawn takes
-- its vectors along. `Embedders.prepare` makes a partition for each embedder, partitioned by the tenant's hash, and
-- the graphs of each. The key begins with what the cascade asks for.
create table if not exists embedding (
    embedder smallint not null,
    tenant   text not null,
    sha256   text not null,
    trusted  boolean not null,
    region   smallint not null,
    vector   halfvec not null,
    added_at timestamptz not null default now(),
    primary key (tenant, sha256, trusted, region, embedder),
    foreign key (tenant, sha256, trusted) references candidate on delete cascade
) partition by list (embedder);

-- -- words.py --------------------------------------------------------------------------------------------------------

-- Visual words of registered pictures (core/intake/words.py). A key is the number of a tenant's space, then the word:
-- so the words of tenants, and of vocabularies that follow each other, never meet. A covering index answers a search.
create table if not exists word_space (
    number     integer generated always as identity unique,
    tenant     text not null,
    vocabulary text not null,
    primary key (tenant, vocabulary)
);
create table if not exists visual_word (
    key   bigint not null,
    seq   bigint not null,
    place integer not null
);
create index if not exists visual_word_of_key on visual_word (key) include (seq, place);

-- The same, packed (core/intake/postings.py): one row holds what pictures of one epoch, the upper half of their numbers,
-- have of one word. A posting is 8 bytes, the lower half of the number and the place, in order of the numbers. Postings
-- begin in `visual_word` and are moved here many at once (word_packing.py).
create table if not exists packed_word (
    key      bigint not null,
    epoch    integer not null,
    postings bytea not null,
    primary key (key, epoch)
);
alter table packed_word alter column postings set storage external;

-- Which pictures have words, and which ones, so that they go with the picture. `packed`: none is in `visual_word` now.
create table if not exists worded (
    seq   bigint not null references candidate (seq) on delete cascade,
    space integer not null references word_space (number),
    keys  bigint[] not null,
    primary key (seq, space)
);
create index if not exists worded_of_space on worded (space);
alter table worded add column if not exists packed boolean not null default false;
create index if not exists worded_unpacked on worded (seq) where not packed;
create or replace function without_picture(postings bytea, seq bigint) returns bytea language plpgsql immutable as $$
declare
    wanted constant bytea := substring(int8send(seq) from 5);
    many constant integer := octet_length(postings) / 8;
    first integer := 0;
    after integer := many;
    middle integer;
begin
    while first < after loop
        middle := (first + after) / 2;
        if substring(postings from 8 * middle + 1 for 4) < wanted then
            first := middle + 1;
        else
            after := middle;
        end if;
    end loop;
    while after < many and substring(postings from 8 * after + 1 for 4) = wanted loop
        after := after + 1;
    end loop;
    return substring(postings from 1 for 8 * first) || substring(postings from 8 * after + 1);
end $$;
create or replace function forget_words() returns trigger language plpgsql as $$
begin
    delete from visual_word where key = any(old.keys) and seq = old.seq;
    -- Locked first, in order, as packing locks them; only the next statement surely sees what packing wrote meanwhile.
    perform from packed_word where key = any(old.keys) and epoch = old.seq >> 32 order by key for update;
    with cut as materialized (
        select key, without_picture(postings, old.seq) as rest from packed_word
        where key = any(old.keys) and epoch = old.seq >> 32
    )
    update packed_word set postings = cut.rest from cut
    where packed_word.key = cut.key and packed_word.epoch = old.seq >> 32
        and octet_length(cut.rest) < octet_length(packed_word.postings);
    return old;
end $$;
create or replace trigger forget_words after delete on worded for each row execute function forget_words();

-- -- preparation.py -------------------------------------------------------------------------------------------------

-- Originals that are registered, and found by their hash, but not prepared yet: not found by their parts. Written by the
-- statement that registers, so that none is forgotten. Whoever prepares one leases it: what was not settled is due again.
create table if not exists unprepared (
    seq      bigint primary key references candidate (seq) on delete cascade,
    tenant   text not null,
    since    timestamptz not null default now(),
    due_at   timestamptz not null default now(),
    attempts integer not null default 0
);
create index if not exists unprepared_due on unprepared (due_at, seq);
create index if not exists unprepared_oldest on unprepared (since);
create index if not exists unprepared_of_tenant on unprepared (tenant);

-- -- late.py ---------------------------------------------------------------------------------------------------------

-- Which uploads had a content. `candidate` keeps a content once; a late original concerns each of them.
create table if not exists upload (
    tenant    text not null,
    upload_id text not null,
    sha256    text not null,
    primary key (tenant, upload_id)
);
create index if not exists upload_of_content on upload (tenant, sha256);

-- -- standing.py ----------------------------------------------------------------------------------------------------

-- When an upload was accepted, so that one without a verdict can be told from one that just came.
alter table upload add column if not exists accepted_at timestamptz not null default now();
create index if not exists upload_accepted on upload (accepted_at);

-- Uploads to be judged again because of an original that came after them. `state`: queued, sent (on its way to judge),
-- revised, skipped (`reason` says why). The original is named by its content: registered twice, it is one cause.
create table if not exists late (
    tenant          text not null,
    upload_id       text not null,
    original_sha256 text not null,
    original_id     text not null,
    state           text not null default 'queued' check (state in ('queued', 'sent', 'revised', 'skipped')),
    reason          text,
    attempts        integer not null default 0,
    queued_at       timestamptz not null default now(),
    due_at          timestamptz not null default now(),
    settled_at      timestamptz,
    primary key (tenant, upload_id, original_sha256)
);
create index if not exists late_due on late (tenant, due_at) where state = 'queued';
create index if not exists late_oldest on late (queued_at) where state = 'queued';
create index if not exists late_of_original on late (tenant, original_sha256);

-- Originals that matched more uploads than are judged again.
create table if not exists late_cut (
    tenant          text not null,
    original_sha256 text not null,
    original_id     text not null,
    taken           integer not null,
    cut_at          timestamptz not null default now(),
    primary key (tenant, original_sha256)
);

-- The pace of all processes together, and whose turn it is: tenants with something queued are served in turn.
create table if not exists late_pace (
    one     boolean primary key default true check (one),
    next_at timestamptz not null default '-infinity'
);
insert into late_pace default values on conflict do nothing;
create table if not exists late_tenant (
    tenant    text primary key,
    served_at timestamptz not null default '-infinity'
);

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
create index if not exists geometry_of_candidate on geometry (candidate_sha256);

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
create index if not exists ledger_of_candidate on ledger (tenant, candidate_sha256) where candidate_sha256 is not null;

-- Masks that verdicts name: whether another one names the same, and which are old enough to go (erasure, retention).
create index if not exists ledger_masked on ledger (tenant, judged_at) where event like '%"object_key":"masks/%';
create index if not exists ledger_of_mask on ledger ((substring(event from '"object_key":"(masks/[^"]+)"')))
    where substring(event from '"object_key":"(masks/[^"]+)"') is not null;

-- Uploads that were judged before there was a table of them (schema version 2).
insert into upload (tenant, upload_id, sha256)
select tenant, upload_id, sha256 from ledger where revision = 0 and sha256 is not null
on conflict do nothing;

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
create index if not exists verdict_of_candidate on verdict (tenant, candidate_id, judged_at desc, upload_id desc)
    where candidate_id is not null;

create table if not exists verdict_history (
    tenant    text not null,
    upload_id text not null,
    revision  integer not null,
    event     text not null,
    primary key (tenant, upload_id, revision)
);
create index if not exists verdict_history_of_mask
    on verdict_history ((substring(event from '"object_key":"(masks/[^"]+)"')))
    where substring(event from '"object_key":"(masks/[^"]+)"') is not null;

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
create index if not exists review_of_mask on review ((substring(event from '"corrected_mask_key":"(masks/[^"]+)"')))
    where substring(event from '"corrected_mask_key":"(masks/[^"]+)"') is not null;
create index if not exists review_of_upload on review (tenant, upload_id);

create table if not exists hard_case (
    tenant   text not null,
    sha256   text not null,
    priority double precision not null,
    found_at timestamptz not null,
    event    text not null,
    primary key (tenant, sha256)
);
create index if not exists hard_case_of_mask on hard_case ((substring(event from '"mask_key":"(masks/[^"]+)"')))
    where substring(event from '"mask_key":"(masks/[^"]+)"') is not null;
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

-- -- rejudge.py ------------------------------------------------------------------------------------------------------

-- Requests to reach verdicts again by `models` (`name@version`). `rate`: uploads a second, null: as the settings say;
-- `next_at` is the pace of all processes together.
create table if not exists rejudge_run (
    id         bigint generated always as identity primary key,
    chosen     jsonb not null,
    models     text[] not null,
    rate       double precision,
    next_at    timestamptz not null default '-infinity',
    created_at timestamptz not null default now()
);

-- The uploads of a run, each with what its verdict said at `revision` and, once judged again, says now. `state`: queued,
-- sent (on its way to judge), revised, unchanged (judged again, nothing new), skipped (`reason` says why).
create table if not exists rejudge (
    run          bigint not null references rejudge_run (id),
    tenant       text not null,
    upload_id    text not null,
    revision     integer not null,
    decision     text not null,
    path         text not null,
    score        double precision,
    new_decision text,
    new_path     text,
    new_score    double precision,
    state        text not null default 'queued'
                 check (state in ('queued', 'sent', 'revised', 'unchanged', 'skipped')),
    reason       text,
    attempts     integer not null default 0,
    queued_at    timestamptz not null default now(),
    due_at       timestamptz not null default now(),
    settled_at   timestamptz,
    primary key (run, tenant, upload_id)
);
create index if not exists rejudge_due on rejudge (run, due_at) where state = 'queued';
create index if not exists rejudge_of_upload on rejudge (tenant, upload_id);

-- -- annotations.py -------------------------------------------------------------------------------------------------

-- What became of a hard case at the hands of a version of the annotator. `decision_id` is the review that was heeded,
-- `index_seq` the newest trusted original by then: where either has changed since, the case comes again.
create table if not exists annotation (
    tenant            text not null,
    sha256            text not null,
    annotator         text not null,
    outcome           text not null check (outcome in ('kept', 'dropped', 'no_original', 'failed')),
    source            text not null check (source in ('machine', 'moderator')),
    kind              text check (kind in ('spg', 'sdg', 'drawn', 'authentic', 'unrelated')),
    area              double precision,
    qes               double precision,
    original_sha256   text,
    mask_key          text,
    original_mask_key text,
    error             text,
    policy_version    text not null,
    decision_id       text,
    index_seq         bigint not null,
    annotated_at      timestamptz not null default now(),
    primary key (tenant, sha256, annotator)
);
create index if not exists annotation_kept on annotation (tenant, annotated_at, sha256) where outcome = 'kept';
create index if not exists annotation_of_original on annotation (tenant, original_sha256);

-- -- samples.py -----------------------------------------------------------------------------------------------------

-- Pictures that belong together, since they share an original: a whole group is on one side of the split.
create table if not exists sample_group (
    id    text primary key,
    split text not null check (split in ('train', 'validation', 'test')),
    seq   bigint generated always as identity
);
create table if not exists sample_picture (
    sha256   text primary key,
    group_id text not null references sample_group (id)
);
create index if not exists sample_picture_of_group on sample_picture (group_id);

-- The manifest: rows are only ever added. `set_aside` says why a sample goes into no further dataset version.
create table if not exists sample (
    id              text primary key,
    tenant          text not null,
    sha256          text not null,
    object_key      text not null,
    size_bytes      bigint not null,
    width           integer not null,
    height          integer not null,
    format          text not null,
    mask_key        text,
    original_sha256 text,
    kind            text not null check (kind in ('spg', 'sdg', 'drawn', 'authentic')),
    area            double precision not null,
    qes             double precision,
    source          text not null check (source in ('machine', 'moderator')),
    annotator       text not null,
    group_id        text not null references sample_group (id),
    split           text not null check (split in ('train', 'validation', 'test')),
    set_aside       text,
    seq             bigint generated always as identity,
    added_at        timestamptz not null default now()
);
create unique index if not exists sample_once on sample (tenant, sha256, annotator, kind, coalesce(mask_key, ''));
create index if not exists sample_of_tenant on sample (tenant, seq);
create index if not exists sample_of_group on sample (group_id);

-- -- datasets.py ----------------------------------------------------------------------------------------------------

-- Frozen choices of samples. `writing`: not all of its shards lie in the store yet.
create table if not exists dataset_version (
    name       text primary key,
    digest     text not null,
    tenants    text[] not null,
    parameters jsonb not null,
    state      text not null default 'writing' check (state in ('writing', 'frozen', 'erased')),
    created_at timestamptz not null default now()
);
create table if not exists dataset_shard (
    version    text not null references dataset_version (name),
    object_key text not null,
    split      text not null,
    digest     text not null,
    size_bytes bigint not null,
    samples    integer not null,
    primary key (version, object_key)
);
create table if not exists dataset_sample (
    version   text not null references dataset_version (name),
    sample_id text not null references sample (id),
    shard     text,
    primary key (version, sample_id)
);
create index if not exists dataset_sample_of_sample on dataset_sample (sample_id);

-- -- erasure.py -----------------------------------------------------------------------------------------------------

-- That something was erased, by whom and how much. `content_mark` is a hash of the content's SHA-256.
create table if not exists erasure (
    id           bigint generated always as identity primary key,
    tenant       text not null,
    content_mark text not null,
    erased_by    text not null,
    counts       jsonb not null,
    left_in      jsonb not null,
    erased_at    timestamptz not null default now()
);
create index if not exists erasure_of_content on erasure (tenant, content_mark);

-- -- promotions.py ---------------------------------------------------------------------------------------------------

-- Versions of models that may serve; their archives lie in the object store, by their content.
create table if not exists model_version (
    model          text not null,
    version        text not null,
    archive_sha256 text not null,
    size_bytes     bigint not null,
    added_at       timestamptz not null default now(),
    primary key (model, version)
);

-- What was to serve, since when and why: begun before anything is done, and then done or given up. For `rolled_back`,
-- `version` is the one that stopped serving, and `previous_version` serves again. Done and not `published` is an event
-- that Kafka does not have yet.
create table if not exists promotion (
    id               bigint generated always as identity primary key,
    model            text not null,
    version          text not null,
    previous_version text not null,
    action           text not null check (action in ('promoted', 'rolled_back')),
    archive_sha256   text not null,
    reason           text not null,
    state            text not null default 'begun' check (state in ('begun', 'done', 'given_up')),
    begun_at         timestamptz not null default now(),
    ended_at         timestamptz,
    published        boolean not null default false
);
create unique index if not exists promotion_begun on promotion (model) where state = 'begun';
create index if not exists promotion_of_model on promotion (model, id);

-- -- shadows.py ------------------------------------------------------------------------------------------------------

-- What a version that does not serve said of uploads beside the verdict. `iou` is of what both mark, 1 where neither marks
-- anything.
create table if not exists shadow (
    tenant            text not null,
    upload_id         text not null,
    champion          text not null,
    challenger        text not null,
    champion_score    double precision not null,
    score             double precision not null,
    champion_decision text not null,
    decision          text not null,
    iou               double precision not null,
    seconds           double precision not null,
    judged_at         timestamptz not null default now(),
    primary key (tenant, upload_id, challenger)
);

-- -- rounds.py -------------------------------------------------------------------------------------------------------

-- Rounds of the learning loop, one in work at most: `step` is in work, or was the last. Names no picture.
create table if not exists round (
    id          bigint generated always as identity primary key,
    step        text not null default 'annotate',
    options     jsonb not null,
    started_at  timestamptz not null default now(),
    finished_at timestamptz,
    new_samples integer,
    dataset     text,
    champion    text,
    challenger  text,
    weights_key text,
    report_key  text,
    decision    text,
    reason      text,
    versions    jsonb not null default '{}',
    times       jsonb not null default '{}'
);
create unique index if not exists round_open on round ((true)) where finished_at is null;

-- -- searching.py, feed.py, activity.py ------------------------------------------------------------------------------

-- In which order verdicts arrived, revisions too: what the live feed goes by. A redelivered event leaves a gap.
alter table verdict_history add column if not exists seq bigint generated always as identity;
create unique index if not exists verdict_history_seq on verdict_history (seq);
create index if not exists verdict_history_of_tenant on verdict_history (tenant, seq);

-- Lists in their order with what is mostly filtered by, so that no combination of filters reads the events of verdicts
-- that do not fit, and verdicts over time are counted without them.
create index if not exists verdict_facts on verdict (judged_at desc, tenant desc, upload_id desc)
    include (decision, path, score);
-- What is asked for by name, whole or by its beginning.
create index if not exists verdict_by_upload on verdict (upload_id text_pattern_ops);
create index if not exists verdict_by_sha256 on verdict (sha256) where sha256 is not null;
create index if not exists verdict_by_original on verdict (candidate_id, judged_at desc) where candidate_id is not null;
create index if not exists verdict_by_file on verdict (lower(filename) text_pattern_ops) where filename is not null;

-- -- review_*.py -----------------------------------------------------------------------------------------------------

-- Cases for people: uploads that were compared with one picture, or are one file, named by its content (`cluster`).
-- `upload_id` is the member that is shown, `members` counts those still to be decided, `rank` sorts the queue
-- (core/review/cases.py). `first_*` and `second_*`: two who decide without seeing each other. A case with `honeypot` has
-- a known answer and belongs to whoever it was made for. `settled`: a later revision of the verdict needs nobody.
create table if not exists review_case (
    id              uuid primary key,
    tenant          text not null,
    cluster         text not null,
    kind            text not null check (kind in ('inconclusive', 'paths_disagree', 'spot_check')),
    state           text not null default 'open' check (state in ('open', 'decided', 'settled')),
    settled_because text,
    escalated       boolean not null default false,
    reopened        boolean not null default false,
    nearness        double precision not null,
    weight          double precision not null,
    members         integer not null,
    rank            double precision not null,
    opened_at       timestamptz not null,
    upload_id       text not null,
    revision        integer not null,
    first_decision  uuid,
    first_by        text,
    second_decision uuid,
    second_by       text,
    honeypot        uuid,
    locked_by       text,
    locked_name     text,
    locked_until    timestamptz
);
create index if not exists review_queue on review_case (rank desc, id) where state = 'open' and honeypot is null;
create index if not exists review_queue_of_tenant on review_case (tenant, rank desc, id)
    where state = 'open' and honeypot is null;
create index if not exists review_queue_of_kind on review_case (kind, rank desc, id)
    where state = 'open' and honeypot is null;
create index if not exists review_queue_escalated on review_case (rank desc, id)
    where state = 'open' and honeypot is null and escalated;
create index if not exists review_queue_oldest on review_case (opened_at) where state = 'open' and honeypot is null;
create index if not exists review_case_of_cluster on review_case (tenant, cluster) where state = 'open';
create index if not exists review_case_of_content on review_case (tenant, cluster);
create index if not exists review_case_of_honeypot on review_case (honeypot) where honeypot is not null;
create index if not exists review_case_locked on review_case (locked_by) where locked_by is not null;

create table if not exists review_member (
    case_id   uuid not null references review_case (id) on delete cascade,
    tenant    text not null,
    upload_id text not null,
    revision  integer not null,
    sha256    text not null,
    width     integer not null,
    height    integer not null,
    decision  text not null,
    score     double precision,
    filename  text,
    state     text not null default 'open' check (state in ('open', 'decided', 'settled')),
    joined_at timestamptz not null,
    primary key (case_id, upload_id)
);
create index if not exists review_member_of_upload on review_member (tenant, upload_id);
create index if not exists review_member_of_content on review_member (tenant, sha256);

-- Who had a case before them, from when to when: locks, skipped cases, and how much somebody has seen.
create table if not exists review_claim (
    id         bigint generated always as identity primary key,
    case_id    uuid not null,
    tenant     text not null,
    person     text not null,
    name       text not null,
    claimed_at timestamptz not null,
    seen_at    timestamptz not null,
    ended_at   timestamptz,
    outcome    text check (outcome in ('decided', 'skipped', 'released', 'escalated', 'lost'))
);
create index if not exists review_claim_of_case on review_claim (case_id, person);
create index if not exists review_claim_of_person on review_claim (person, claimed_at);

create table if not exists review_note (
    id      bigint generated always as identity primary key,
    case_id uuid not null references review_case (id) on delete cascade,
    kind    text not null check (kind in ('escalated', 'reopened', 'disagreement')),
    name    text not null,
    note    text not null,
    at      timestamptz not null
);
create index if not exists review_note_of_case on review_note (case_id);

-- Decisions, the undone ones too. `part`: see core/review/decisions.py. `mask_of` is the content that the mask was drawn
-- on. `request_key`: a repeated request with it gets the same answer.
create table if not exists review_decision (
    id             uuid primary key,
    case_id        uuid not null references review_case (id) on delete cascade,
    tenant         text not null,
    person         text not null,
    name           text not null,
    part           text not null check (part in ('single', 'first', 'second', 'final', 'honeypot')),
    decision       text not null check (decision in ('manipulated', 'no_evidence', 'inconclusive')),
    reason_codes   text[] not null,
    comment        text,
    mask_key       text,
    mask_of        text,
    decided_at     timestamptz not null,
    publish_at     timestamptz not null,
    undone_at      timestamptz,
    seconds        double precision not null,
    request_key    text,
    request_digest text
);
create unique index if not exists review_decision_once on review_decision (person, request_key)
    where request_key is not null;
create index if not exists review_decision_of_case on review_decision (case_id);
create index if not exists review_decision_of_person on review_decision (person, decided_at desc, id);
create index if not exists review_decision_newest on review_decision (decided_at);

-- The outbox: an event for each upload of a decision, sent from `due_at` on; null: not to be sent (withheld or undone).
create table if not exists review_outcome (
    decision_id uuid not null references review_decision (id) on delete cascade,
    tenant      text not null,
    upload_id   text not null,
    of_revision integer not null,
    sha256      text not null,
    due_at      timestamptz,
    sent_at     timestamptz,
    primary key (decision_id, upload_id)
);
create index if not exists review_outcome_due on review_outcome (due_at) where sent_at is null and due_at is not null;
create index if not exists review_outcome_of_upload on review_outcome (tenant, upload_id);

-- Masks that were drawn for a member of a case; a decision may name one of them.
create table if not exists review_mask (
    case_id   uuid not null references review_case (id) on delete cascade,
    mask_key  text not null,
    tenant    text not null,
    upload_id text not null,
    sha256    text not null,
    person    text not null,
    drawn_at  timestamptz not null,
    primary key (case_id, mask_key, upload_id)
);
create index if not exists review_mask_of_content on review_mask (tenant, sha256);

-- Uploads whose answer is known; shown to each moderator once, as if it were not.
create table if not exists review_honeypot (
    id         uuid primary key,
    tenant     text not null,
    upload_id  text not null,
    sha256     text not null,
    kind       text not null,
    revision   integer not null,
    answer     text not null check (answer in ('manipulated', 'no_evidence')),
    added_by   text not null,
    added_at   timestamptz not null,
    retired_at timestamptz
);
create unique index if not exists review_honeypot_once on review_honeypot (tenant, upload_id) where retired_at is null;

-- How somebody wants pictures to be shown; null: as the settings say.
create table if not exists review_person (
    person    text primary key,
    blur      boolean,
    greyscale boolean,
    opacity   double precision,
    theme     text check (theme in ('system', 'light', 'dark'))
);
-- -- accounts.py -----------------------------------------------------------------------------------------------------

-- Who may come in. `tenants` null: all of them. `origin`: added by hand, or come from the OpenID provider, whose claims
-- then decide about role and tenants at each sign-in.
create table if not exists person (
    subject    text primary key check (length(subject) between 1 and 200),
    name       text not null,
    email      text,
    role       text not null check (role in ('viewer', 'moderator', 'lead', 'admin')),
    tenants    text[],
    origin     text not null default 'local' check (origin in ('local', 'oidc')),
    disabled   boolean not null default false,
    created_at timestamptz not null default now(),
    seen_at    timestamptz
);

-- -- tokens.py -------------------------------------------------------------------------------------------------------

-- What programs come in with; only a SHA-256 is kept of the token itself. One with an `owner` never may more than they.
create table if not exists api_token (
    id         bigint generated always as identity primary key,
    digest     text not null unique,
    name       text not null,
    role       text not null check (role in ('viewer', 'moderator', 'lead', 'admin')),
    tenants    text[],
    owner      text references person (subject),
    created_at timestamptz not null,
    expires_at timestamptz,
    used_at    timestamptz,
    revoked_at timestamptz
);
create index if not exists api_token_of_owner on api_token (owner, id);

-- -- sessions.py -----------------------------------------------------------------------------------------------------

-- Browsers that are signed in; of the cookie only a SHA-256 is kept. `token_mark`: the web token that it was begun with.
create table if not exists web_session (
    id         bigint generated always as identity primary key,
    digest     text not null unique,
    subject    text not null,
    method     text not null check (method in ('oidc', 'link', 'token')),
    token_mark text,
    agent      text not null,
    created_at timestamptz not null,
    seen_at    timestamptz not null,
    expires_at timestamptz not null
);
create index if not exists web_session_of_subject on web_session (subject, id);
create index if not exists web_session_over on web_session (expires_at);

-- -- signins.py ------------------------------------------------------------------------------------------------------

-- Links that sign somebody in once, and sign-ins that are at the OpenID provider just now. Each is used once.
create table if not exists sign_in_ticket (
    digest     text primary key,
    subject    text not null references person (subject),
    expires_at timestamptz not null
);
create table if not exists sign_in_flow (
    digest     text primary key,
    state      text not null,
    nonce      text not null,
    verifier   text not null,
    target     text not null,
    expires_at timestamptz not null
);

-- How often an address failed since when.
create table if not exists sign_in_failure (
    address  text primary key,
    failures integer not null,
    since    timestamptz not null
);

-- -- audit.py --------------------------------------------------------------------------------------------------------

-- Which upload an entry means. Apart from the entries, so that an erasure can take the name away and leave them alone.
create table if not exists audit_upload (
    id        bigint generated always as identity primary key,
    tenant    text not null,
    upload_id text not null,
    unique (tenant, upload_id)
);

-- Who saw and did what. Rows are only ever inserted: the trigger refuses everything else.
create table if not exists audit (
    id        bigint generated always as identity primary key,
    at        timestamptz not null default now(),
    subject   text not null,
    name      text not null,
    action    text not null,
    tenant    text,
    upload    bigint,
    details   jsonb not null default '{}'
);
create index if not exists audit_of_subject on audit (subject, id);
create index if not exists audit_of_action on audit (action, id);
create index if not exists audit_of_tenant on audit (tenant, id);
create index if not exists audit_of_upload on audit (upload, id) where upload is not null;

create or replace function audit_stays() returns trigger language plpgsql as $$
begin
    raise exception 'the audit log is append-only: no % of it', lower(tg_op);
end
$$;
create or replace trigger audit_append_only before update or delete or truncate on audit
    for each statement execute function audit_stays();
-- -- webhooks.py, deliveries.py -------------------------------------------------------------------------------------

-- Who wants to be told, and where. Secrets are sealed with a key that only the processes have (clients/vault.py).
-- `wait_until` holds back everything for a receiver that is down or asked for time; `served_at`: whose turn it is.
create table if not exists webhook (
    id         text primary key,
    tenant     text not null,
    url        text not null,
    kinds      text[] not null,
    decisions  text[],
    state      text not null default 'active' check (state in ('active', 'paused', 'disabled')),
    secret     text not null,
    old_secret text,
    old_until  timestamptz,
    failures   integer not null default 0,
    wait_until timestamptz not null default 'epoch',
    served_at  timestamptz not null default 'epoch',
    created_by text not null,
    created_at timestamptz not null default now(),
    check ((old_secret is null) = (old_until is null))
);
create index if not exists webhook_of_tenant on webhook (tenant, created_at, id);

-- What is to be sent, by reference: verdict_history (`reference` is the revision) or review (the decision's id) has the
-- event, so that an erasure reaches it there. Those of one `subject` go out in the order of their ids.
create table if not exists webhook_delivery (
    id           bigint generated always as identity primary key,
    webhook      text not null references webhook (id) on delete cascade,
    kind         text not null check (kind in ('verdict', 'review', 'ping')),
    event_id     text not null,
    subject      text not null,
    reference    text not null,
    state        text not null default 'queued' check (state in ('queued', 'delivered', 'dead')),
    reason       text,
    attempts     integer not null default 0,
    queued_at    timestamptz not null default now(),
    since        timestamptz not null default now(),
    due_at       timestamptz not null default now(),
    leased_until timestamptz not null default 'epoch',
    settled_at   timestamptz,
    unique (webhook, event_id)
);
create index if not exists webhook_delivery_due on webhook_delivery (webhook, due_at, id) where state = 'queued';
create index if not exists webhook_delivery_order on webhook_delivery (webhook, subject, id) where state = 'queued';
create index if not exists webhook_delivery_leased on webhook_delivery (webhook, leased_until) where state = 'queued';
create index if not exists webhook_delivery_in_state on webhook_delivery (webhook, state, id);
create index if not exists webhook_delivery_dead on webhook_delivery (id) where state = 'dead';
create index if not exists webhook_delivery_settled on webhook_delivery (settled_at) where state <> 'queued';

-- Every try: when, what was answered, how long it took. Neither body is kept.
create table if not exists webhook_attempt (
    id          bigint generated always as identity primary key,
    webhook     text not null references webhook (id) on delete cascade,
    delivery    bigint not null references webhook_delivery (id) on delete cascade,
    status      integer,
    error       text,
    duration_ms double precision not null,
    tried_at    timestamptz not null default now()
);
create index if not exists webhook_attempt_newest on webhook_attempt (webhook, id);
create index if not exists webhook_attempt_of_delivery on webhook_attempt (delivery);

-- -- answers.py -----------------------------------------------------------------------------------------------------

-- Answers to requests with an idempotency key, so that a repetition gets the same one. `status` null: in work.
create table if not exists kept_answer (
    person      text not null,
    route       text not null,
    key         text not null,
    fingerprint text not null,
    token       text not null,
    status      integer,
    headers     jsonb,
    body        text,
    started_at  timestamptz not null default now(),
    primary key (person, route, key)
);
create index if not exists kept_answer_old on kept_answer (started_at);
