"""`pentimento package`, `train`, `evaluate`, `harvest` and `policy show`: what decides, made and looked at.

Thin: the work is `model_archive`'s and `trainer`'s, which are imported only when they are asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.console import DataOption, JsonOption, fail, notices, policy_in, settings_of, write_lines, write_table

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Every argument, `--help` too, goes to the module that does the work."""

app = typer.Typer()
policy = typer.Typer(help="Look at the policy in force.", no_args_is_help=True)


@app.command()
def package(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the archives.")],
    model: Annotated[list[str] | None, typer.Option("--model", help="Only this one; repeatable.")] = None,
    version: Annotated[str | None, typer.Option("--version", help="Version of the archives.")] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="DIR", help="Folder of other weights than the shipped ones.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build the model archives for TorchServe. The same input gives the same bytes.

    With --weights and without --version, an archive has the version of its main network's weights.

    Examples: `pentimento package --out archives/`,
    `pentimento package --model unconstrained --weights fitted/ --out archives/`
    """
    from model_archive import card
    from model_archive import package as packaging

    built = []
    for name in model or sorted(packaging.ARCHIVES):
        if name not in packaging.ARCHIVES:
            raise typer.BadParameter(f"{name} is none of {', '.join(sorted(packaging.ARCHIVES))}", param_hint="--model")
        called = version or packaging.VERSION
        if weights is not None and version is None:
            main = card.default_path(packaging.ARCHIVES[name].networks[0], weights)
            called = card.read(main).version_with(card.sha256(main))
        archive = packaging.build(name, out, called, weights=weights)
        facts = {"model": name, "archive": str(archive), "sha256": packaging.sha256(archive)}
        built.append({**facts, "size_bytes": archive.stat().st_size})
    if as_json:
        write_lines(built)
    else:
        columns = ("model", "archive", "sha256", "size_bytes")
        write_table(columns, ([str(facts[column]) for column in columns] for facts in built))


@app.command(context_settings=PASSED_ON)
def train(context: typer.Context) -> None:
    """Fit a network. The arguments are those of `python -m trainer.fit`.

    Example: pentimento train difference --minutes 20 --photos photos/
    """
    from trainer import fit

    fit.fit(fit.parsed(context.args), notices())


@app.command(context_settings=PASSED_ON)
def evaluate(context: typer.Context) -> None:
    """Measure the networks on data with known masks. The arguments are those of `python -m trainer.evaluate`.

    Example: pentimento evaluate unconstrained --set imd2020/
    """
    from trainer import evaluate as evaluation

    if status := evaluation.main(context.args):
        fail(f"the evaluation ended with status {status}")


@app.command(context_settings=PASSED_ON)
def harvest(context: typer.Context) -> None:
    """Make a data set of annotated forgeries. The arguments are those of `python -m trainer.harvest`.

    Example: pentimento harvest pairs pairs.csv --out mined --allow-host images.example.org --contact me@example.org
    """
    from trainer.harvest.__main__ import main

    if status := main(context.args):
        raise typer.Exit(status)


@policy.callback()
def _policy() -> None:
    """Look at the policy in force."""


@policy.command()
def show(as_json: JsonOption = False, data: DataOption = None) -> None:
    """Show the thresholds in force and the version that verdicts carry.

    Example: pentimento policy show
    """
    chosen = policy_in(settings_of(data))
    values: dict[str, Any] = {"version": chosen.version, **chosen.model_dump()}
    if as_json:
        write_lines([values])
    else:
        write_table(("threshold", "value"), _flat(values))


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as rows with dotted names."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", str(value))]
    return rows
