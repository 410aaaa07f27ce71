"""Forgeries from the web or from folders, annotated: `python -m trainer.harvest pairs FILE --out DIR`.

`pairs` takes a list of forged pictures and their originals, `pools` finds out itself which belong together, `page`
draws the page of a finished harvest again. Stopped at any moment, the same command goes on. Bad rows and pictures are
counted and named, and never end a run. Exit status: 0 done, 1 hosts were away (worth another run) or it failed, 2 wrong
use.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from services.clients.fetch import Fetcher
from services.core.errors import PentimentoError
from services.core.intake.examine import Limits
from trainer.harvest.dataset import write_dataset, write_shards
from trainer.harvest.download import agent
from trainer.harvest.fetching import Web
from trainer.harvest.journal import alone_in
from trainer.harvest.lanes import Pace
from trainer.harvest.lists import PAIR_COLUMNS, POOL_COLUMNS, NoList, read_pairs, read_pool, read_ps_battles
from trainer.harvest.page import write_page
from trainer.harvest.rows import Row, row_of
from trainer.harvest.run import Harvest, Plan
from trainer.harvest.sources import BadRow, Pair, Source
from trainer.harvest.telling import intended, told

EXAMPLES = {
    "pairs": """examples:
  python -m trainer.harvest pairs pairs.csv --out mined --allow-host images.example.org --contact me@example.org
  python -m trainer.harvest pairs PS-Battles/ --format ps-battles --out mined --allow-host i.imgur.com \\
      --allow-http --contact me@example.org --workers 8 --limit 1000""",
    "pools": """examples:
  python -m trainer.harvest pools --forged forgeries/ --originals photos/ --out mined
  python -m trainer.harvest pools --forged urls.csv --originals shard-000000.tar --out mined \\
      --allow-host images.example.org --contact me@example.org""",
    "page": """example:
  python -m trainer.harvest page mined""",
}
CONTACT = re.compile(r"[!-~]+@[!-~]+|https?://[!-~]+")

Entries = tuple[list[Row], list[Source] | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    notices = Console(stderr=True)
    try:
        if options.command == "page":
            print(write_page(options.folder))
            return 0
        rows, pool = _entries(options, notices)
        web = _web(options, parser)
        _check_contact(options, parser, rows, pool or [])
        if options.dry_run:
            intended(rows, pool or [], web.fetcher(), options.out / "state", as_json=options.json)
            return 0
        return _harvest(options, web, rows, pool, notices)
    except NoList as error:
        parser.error(str(error))
    except BlockingIOError:
        notices.print(f"[bold red]error:[/] another harvest is at work in {escape(str(options.out))}")
    except (PentimentoError, OSError, ValueError) as error:
        notices.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
    except KeyboardInterrupt:
        notices.print("stopped; the same command goes on where it was")
    return 1


def _harvest(
    options: argparse.Namespace, web: Web, rows: list[Row], pool: list[Source] | None, notices: Console
) -> int:
    """Runs all stages and writes what they leave. Raises PentimentoError, OSError, NoList."""
    out: Path = options.out
    if out.exists() and any(out.iterdir()) and not (out / "state").is_dir():
        raise NoList(f"{out} is neither empty nor a harvest: give another --out, since a harvest tidies up its folder")
    limits = Limits(max_bytes=options.max_bytes)
    plan = Plan(
        out,
        options.cache or out / "cache",
        web,
        limits,
        workers=options.workers,
        flips=options.flips,
        side=options.side,
        again=options.retry,
    )
    with alone_in(plan.state), _progress(notices) as bar, Harvest(plan, bar) as harvest:
        harvest.run(rows, pool)
        figures = write_dataset(out, rows, harvest)
        if options.shards:
            write_shards(out, options.shards)
        page = write_page(out)
    told(figures, page, as_json=options.json)
    unfinished = figures["fates"]["postponed"]
    if unfinished:
        notices.print(f"{unfinished} rows were postponed; the same command asks again")
    return 1 if unfinished else 0


# -- what is asked for ------------------------------------------------------------------------------------------------


def _entries(options: argparse.Namespace, notices: Console) -> Entries:
    """The rows, and the pool of originals where they are still to be paired; its bad rows are told. Raises NoList."""
    columns = _columns(options)
    if options.command == "pairs":
        ps_battles = options.format == "ps-battles"
        found = read_ps_battles(options.list) if ps_battles else read_pairs(options.list, columns, root=options.root)
        return [row_of(entry) for entry in islice(found, options.limit)], None
    forged = [entry for pool in options.forged for entry in read_pool(pool, columns, root=options.root)]
    rows = [row_of(_unpaired(number, entry)) for number, entry in enumerate(forged[: options.limit], start=1)]
    originals = [entry for pool in options.originals for entry in read_pool(pool, columns, root=options.root)]
    for entry in originals:
        if isinstance(entry, BadRow):
            notices.print(escape(f"left out of the originals: row {entry.line}: {entry.why}"), soft_wrap=True)
    return rows, [entry for entry in originals if isinstance(entry, Source)]


def _unpaired(number: int, entry: Source | BadRow) -> Pair | BadRow:
    return Pair(number, entry, None) if isinstance(entry, Source) else entry


def _columns(options: argparse.Namespace) -> dict[str, str]:
    known = PAIR_COLUMNS if options.command == "pairs" else POOL_COLUMNS
    named = {}
    for text in options.column:
        name, equals, header = text.partition("=")
        if name not in known or not equals or not header:
            raise NoList(f"--column {text}: it takes NAME=HEADER with a name of {', '.join(known)}")
        named[name] = header
    if options.command == "pairs":
        sides = {"forged": options.forged_column, "original": options.original_column}
        named |= {side: header for side, header in sides.items() if header}
    return named


def _web(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Web:
    def fetcher() -> Fetcher:
        made = Fetcher(
            allowed_hosts=options.allow_host,
            max_bytes=options.max_bytes,
            timeout_s=options.timeout,
            allow_http=options.allow_http,
            ports=options.port or ((443, 80) if options.allow_http else (443,)),
            allowed_networks=options.allow_network,
        )
        made.user_agent = agent(options.contact, version("pentimento"))
        return made

    try:
        fetcher()
    except ValueError as error:
        parser.error(str(error))
    return Web(fetcher, Pace(delay_s=options.delay, at_once=options.at_once, patience_s=options.patience))


def _check_contact(
    options: argparse.Namespace, parser: argparse.ArgumentParser, rows: Iterable[Row], pool: Iterable[Source]
) -> None:
    """Who fetches from strangers says who they are, and which hosts they mean."""
    if options.contact and not CONTACT.fullmatch(options.contact):
        parser.error("--contact takes an e-mail address or a URL")
    if all(source.file for row in rows for source in row.sources()) and all(source.file for source in pool):
        return
    if not options.allow_host:
        parser.error("the list has URLs: name each host that may be asked with --allow-host (*.example.org: all below)")
    if not options.contact:
        parser.error("the list has URLs: say with --contact whom their hosts can write to (an e-mail address or a URL)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.harvest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add = partial(commands.add_parser, formatter_class=argparse.RawDescriptionHelpFormatter)
    pairs = add("pairs", help="from a list of pairs", epilog=EXAMPLES["pairs"])
    pairs.add_argument(
        "list", type=Path, metavar="FILE", help="CSV or TSV of URLs or paths, or the folder of PS-Battles"
    )
    pairs.add_argument("--format", choices=("table", "ps-battles"), default="table", help="layout of the list")
    pairs.add_argument("--forged-column", metavar="HEADER", help="column of the forged picture (forged)")
    pairs.add_argument("--original-column", metavar="HEADER", help="column of its original (original)")
    pools = add("pools", help="from pictures that nobody paired", epilog=EXAMPLES["pools"])
    for name, what in (("--forged", "forged pictures"), ("--originals", "originals they may be made from")):
        pools.add_argument(
            name, type=Path, metavar="POOL", nargs="+", required=True, help=f"{what}: folders, CSVs with `url`, tars"
        )
    for command, known in ((pairs, PAIR_COLUMNS), (pools, POOL_COLUMNS)):
        command.add_argument(
            "--column", action="append", default=[], metavar="NAME=HEADER",
            help=f"the list's header for one of {', '.join(known)}; repeatable",
        )  # fmt: skip
        _add_shared(command)
    page = add("page", help="draw the page of a harvest again", epilog=EXAMPLES["page"])
    page.add_argument("folder", type=Path, metavar="DIR", help="folder of a harvest")
    return parser


def _add_shared(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the data set, and of the state to go on from")
    add(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder of fetched pictures (DIR/cache); several harvests may share it",
    )
    add("--root", type=Path, metavar="DIR", help="what paths in lists are relative to (the list's folder)")
    add("--limit", type=_positive, metavar="N", help="only the first N rows")
    add("--retry", action="store_true", help="try once more what failed in an earlier run")
    add("--dry-run", action="store_true", help="say what would be fetched; nothing is asked or written")
    add("--json", action="store_true", help="the figures as one line of JSON instead of tables")
    web = command.add_argument_group("the web")
    add = web.add_argument
    add("--allow-host", action="append", default=[], metavar="HOST", help="may be asked; *.HOST: all below; repeatable")
    add("--contact", default="", metavar="WHO", help="e-mail address or URL for the User-Agent; needed for URLs")
    add("--allow-http", action="store_true", help="http:// too, not https:// alone")
    add(
        "--port", action="append", type=int, metavar="N", help="ports that may be asked (443, and 80 with --allow-http)"
    )
    add("--allow-network", action="append", default=[], metavar="NET", help="private network that may be reached")
    add("--delay", type=float, default=1.0, metavar="S", help="seconds between two requests to one host (%(default)s)")
    add("--at-once", type=_positive, default=2, metavar="N", help="requests to one host at once (%(default)s)")
    add("--timeout", type=float, default=60.0, metavar="S", help="seconds that one request may take (%(default)s)")
    add("--patience", type=float, default=120.0, metavar="S", help="longest wait that a host may ask for (%(default)s)")
    add("--max-bytes", type=_positive, default=30_000_000, metavar="N", help="largest picture (%(default)s)")
    work = command.add_argument_group("the work")
    add = work.add_argument
    add(
        "--workers", type=_positive, default=1, metavar="N", help="processes that look, pair and annotate (%(default)s)"
    )
    add(
        "--flips", action=argparse.BooleanOptionalAction, default=True, help="average over mirror images: 3 looks for 1"
    )
    add(
        "--side",
        type=_positive,
        default=1024,
        metavar="PX",
        help="longer side that pairs are annotated at (%(default)s)",
    )
    add("--shards", type=_positive, metavar="N", help="WebDataset shards too, of N pairs each")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _progress(notices: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=notices,
        disable=not notices.is_terminal,
    )


if __name__ == "__main__":
    sys.exit(main())
