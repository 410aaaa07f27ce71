"""The `pentimento` command. Each file of this package brings some of its commands."""

from __future__ import annotations

import typer

from services.cli import models, stack
from services.cli.annotating import annotate
from services.cli.audit import audit
from services.cli.console import Commands
from services.cli.demo import demo
from services.cli.erase import erase
from services.cli.erasures import erasures
from services.cli.learn import learn
from services.cli.migrate import migrate
from services.cli.offline import mask
from services.cli.offsets import offsets
from services.cli.originals import originals
from services.cli.originals_import import import_manifest
from services.cli.originals_late import late
from services.cli.originals_list import list_originals, remove
from services.cli.originals_pack import pack
from services.cli.originals_reindex import embedders, reindex
from services.cli.originals_stop import stop_list
from services.cli.people import people
from services.cli.prepare import prepare
from services.cli.promoting import models as list_models
from services.cli.promoting import promote, rollback, watch
from services.cli.rejudge import rejudge
from services.cli.replay import replay
from services.cli.retain import retain
from services.cli.review import review
from services.cli.submit import submit
from services.cli.tokens import tokens
from services.cli.verdicts import verdicts
from services.cli.webhooks import webhooks

app = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Finds manipulated images in a stream of uploads.", add_completion=False
)
app.add_typer(stack.app)
app.command()(prepare)
app.command()(migrate)
app.command()(demo)
app.command()(submit)
originals.command("list")(list_originals)
originals.command()(remove)
originals.command("import")(import_manifest)
originals.command()(late)
originals.command()(reindex)
originals.command()(embedders)
originals.command()(pack)
originals.add_typer(stop_list, name="stop-list")
app.add_typer(originals, name="originals")
app.command()(verdicts)
app.add_typer(rejudge, name="rejudge")
app.add_typer(offsets, name="offsets")
app.add_typer(replay, name="replay")
app.add_typer(review, name="review")
app.command()(mask)
app.command()(annotate)
app.add_typer(learn, name="learn")
app.command()(erase)
app.add_typer(erasures, name="erasures")
app.command()(retain)
app.add_typer(people, name="people")
app.add_typer(tokens, name="tokens")
app.command()(audit)
app.add_typer(webhooks, name="webhooks")
app.add_typer(models.app)
app.command("models")(list_models)
app.command()(promote)
app.command()(rollback)
app.command()(watch)
app.add_typer(models.policy, name="policy")


def main() -> None:
    """Entry point."""
    app()
