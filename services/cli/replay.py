"""`pentimento replay`: dead letters, looked at and sent on their way again.

In: the topic `dead-letters`, whose null values say what was redriven already. Out: the original messages, byte for byte
and with the same ids, on their original topics. Stopped in the middle, it goes on where it was: a letter gets its null
value only after its message was acknowledged, and a message that is sent twice is known by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from services.cli.connections import opened_reader, opened_sender
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
from services.clients import dead_letters
from services.core.events import DeadLetter
from services.core.letters import beginning, facts, preview
from services.settings import Settings

SHORT = 8  # digits of an id that tables show; any beginning that fits one letter alone names it

replay = typer.Typer(help="List, show and redrive dead letters.", no_args_is_help=True)

Rate = Annotated[float, typer.Option("--rate", min=0.01, help="Messages a second at most.")]


@replay.command("list")
def list_letters(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the dead letters that were not redriven yet, oldest first.

    Example: pentimento replay list
    """
    letters = asyncio.run(waiting_letters(settings_of(data)))
    if as_json:
        write_lines(facts(letter, whole=False) for letter in letters)
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
        write_lines([facts(letter, whole=True)])
        return
    console = Console()
    for name, value in facts(letter, whole=False).items():
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
        asyncio.run(_redrive(settings, chosen, rate, lambda _: bar.advance(task)))
    if as_json:
        write_lines({"id": letter.key(), "topic": letter.source_topic, "redriven": True} for letter in chosen)
    else:
        note(f"{len(chosen)} messages redriven")


async def waiting_letters(settings: Settings) -> list[DeadLetter]:
    """Dead letters that were not redriven yet, oldest first. Raises Unavailable."""
    waiting = await dead_letters.waiting_letters(opened_reader(settings))
    for stranger in waiting.strangers:
        note(f"skipped {stranger}")
    return waiting.oldest_first()


def named(letters: Sequence[DeadLetter], letter_id: str) -> DeadLetter:
    """The letter whose id begins so. Wrong use where several do; failed work where none does."""
    found = beginning(letters, letter_id)
    if not found:
        fail(f"no dead letter is waiting whose id begins with {letter_id}: see `pentimento replay list`")
    if len(found) > 1:
        raise wrong_use(f"{letter_id} begins the ids of {len(found)} letters: write more of it")
    return found[0]


async def _redrive(
    settings: Settings, letters: Sequence[DeadLetter], rate: float, sent: Callable[[DeadLetter], None]
) -> None:
    async with opened_sender(settings) as sender:
        await dead_letters.redrive(sender, letters, rate=rate, sent=sent)


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
