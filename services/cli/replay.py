"""`pentimento replay`: dead letters, looked at and sent on their way again.

In: the topic `dead-letters`, whose null values say what was redriven already. Out: the original messages, byte for byte
and with the same ids, on their original topics. Stopped in the middle, it goes on where it was: a letter gets its null
value only after its message was acknowledged, and a message that is sent twice is known by its id.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from services.cli.connections import messages, opened_sender
from services.cli.console import (
    DataOption,
    JsonOption,
    fail,
    note,
    progress,
    settings_of,
    write_lines,
    write_table,
    wrong_use,
)
from services.core import topology
from services.core.envelope import Message, Undecodable, decode
from services.core.events import DeadLetter
from services.settings import Settings
from services.stream.deadletter import redriven

SHORT = 8  # digits of an id that tables show; any beginning that fits one letter alone names it
PREVIEW_BYTES = 4000

replay = typer.Typer(help="List, show and redrive dead letters.", no_args_is_help=True)

Rate = Annotated[float, typer.Option("--rate", min=0.01, help="Messages a second at most.")]


@replay.command("list")
def list_letters(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the dead letters that were not redriven yet, oldest first.

    Example: pentimento replay list
    """
    letters = asyncio.run(waiting_letters(settings_of(data)))
    if as_json:
        write_lines(_as_json(letter, whole=False) for letter in letters)
        return
    columns = ("id", "failed at", "place", "upload", "kind", "tries", "message")
    write_table(columns, (_cells(letter) for letter in letters))
    if letters:
        note(f"{len(letters)} dead letters; `pentimento replay show ID` shows one, `replay redrive` sends them again")


@replay.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="The letter's id, or its beginning.")],
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show a dead letter whole, with the message that could not be handled.

    Example: pentimento replay show 3f2a91c4
    """
    letter = named(asyncio.run(waiting_letters(settings_of(data))), letter_id)
    if as_json:
        write_lines([_as_json(letter, whole=True)])
        return
    console = Console()
    for name, value in _as_json(letter, whole=False).items():
        console.print(f"[bold]{name}[/]: {escape(str(value))}", soft_wrap=True, highlight=False)
    for name, value in letter.source_headers:
        console.print(f"[bold]header {escape(name)}[/]: {escape(value.decode(errors='backslashreplace'))}")
    console.print("[bold]value[/]:")
    console.print(preview(letter.source_value), markup=False, soft_wrap=True)


@replay.command()
def redrive(
    letter_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which; or --all.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    rate: Rate = 10.0,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Send the original messages of dead letters again, with the same ids, at a limited rate.

    Example: pentimento replay redrive --all --rate 5
    """
    if bool(letter_ids) == every:
        raise wrong_use("name the letters, or say --all")
    settings = settings_of(data)
    letters = asyncio.run(waiting_letters(settings))
    chosen = letters if every else [named(letters, letter_id) for letter_id in letter_ids or ()]
    with progress() as bar:
        task = bar.add_task("redriving", total=len(chosen))
        asyncio.run(_redrive(settings, chosen, rate, lambda: bar.advance(task)))
    if as_json:
        write_lines({"id": letter.key(), "topic": letter.source_topic, "redriven": True} for letter in chosen)
    else:
        note(f"{len(chosen)} messages redriven")


async def waiting_letters(settings: Settings) -> list[DeadLetter]:
    """Dead letters that were not redriven yet, oldest first. Raises Unavailable."""
    letters: dict[bytes | None, DeadLetter] = {}
    arriving = messages(settings, topology.DEAD_LETTERS, from_beginning=True, until_end=True)
    async with aclosing(arriving):
        async for message in arriving:
            letters.pop(message.key, None)  # a later message with the same key replaces it, a null value removes it
            if message.value is None:
                continue
            try:
                letters[message.key] = decode(message, DeadLetter)
            except Undecodable as why:
                note(f"skipped {message.topic}/{message.partition}/{message.offset}: {why}")
    return sorted(letters.values(), key=lambda letter: letter.failed_at)


def named(letters: Sequence[DeadLetter], letter_id: str) -> DeadLetter:
    """The letter whose id begins so. Wrong use where several do; failed work where none does."""
    found = [letter for letter in letters if letter.key().startswith(letter_id.lower())]
    if not found:
        fail(f"no dead letter is waiting whose id begins with {letter_id}: see `pentimento replay list`")
    if len(found) > 1:
        raise wrong_use(f"{letter_id} begins the ids of {len(found)} letters: write more of it")
    return found[0]


def preview(value: bytes | None) -> str:
    """A message's value for people: JSON indented, long strings cut; other bytes as they are, as far as they print."""
    if value is None:
        return "(none: a tombstone)"
    try:
        return json.dumps(_cut(json.loads(value)), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        shown = value[:PREVIEW_BYTES].decode(errors="backslashreplace")
        return shown + (f"... ({len(value)} bytes)" if len(value) > PREVIEW_BYTES else "")


async def _redrive(settings: Settings, letters: Sequence[DeadLetter], rate: float, sent: Callable[[], None]) -> None:
    """Message, then null value, letter by letter, `rate` a second at most. Raises Unavailable."""
    clock = asyncio.get_running_loop().time
    async with opened_sender(settings) as sender:
        due = clock()
        for letter in letters:
            await asyncio.sleep(max(0.0, due - clock()))
            due = max(due, clock()) + 1 / rate
            await sender.send(redriven(letter))
            await sender.send(Message(topology.DEAD_LETTERS, letter.key().encode(), None))
            sent()


def _cells(letter: DeadLetter) -> tuple[str, ...]:
    return (
        letter.key()[:SHORT],
        f"{letter.failed_at:%Y-%m-%d %H:%M:%S}",
        f"{letter.source_topic}/{letter.source_partition}/{letter.source_offset}",
        letter.upload_id or "",
        letter.kind,
        str(letter.attempts),
        letter.message,
    )


def _as_json(letter: DeadLetter, *, whole: bool) -> dict[str, object]:
    """The letter's facts; `whole` adds the original message in base64."""
    original = {"source_key", "source_headers", "source_value"}
    return {"id": letter.key(), **letter.model_dump(mode="json", exclude=None if whole else original)}


def _cut(value: object) -> object:
    """JSON with every long string shortened: inline images would fill the screen."""
    match value:
        case dict():
            return {key: _cut(each) for key, each in value.items()}
        case list():
            return [_cut(each) for each in value]
        case str() if len(value) > 200:
            return f"{value[:200]}... ({len(value)} characters)"
        case _:
            return value
