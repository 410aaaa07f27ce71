"""Postings of visual words, packed: a tenth of the disk, read whole. Everything is beside what was there.

A release from before reads `visual_word` alone, and so finds less once postings have been moved from there.
"""

from __future__ import annotations

from services.clients.migrating import build_index, run_script

revision = "0004"
down_revision = "0003"

_PACKED = """
create table if not exists packed_word (
    key      bigint not null,
    epoch    integer not null,
    postings bytea not null,
    primary key (key, epoch)
);
alter table packed_word alter column postings set storage external;
alter table worded add column if not exists packed boolean not null default false;
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
"""


def upgrade() -> None:
    """Nothing is moved here: `word_packing` does that, bit by bit."""
    run_script(_PACKED)
    build_index("worded_unpacked", "worded (seq) where not packed")
