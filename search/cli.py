"""The command line: one function per verb, which reads flags, calls one function elsewhere and prints."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import click

from search.errors import BAD_INPUT, FAILED, INTERRUPTED, SearchError
from search.interrupt import orderly
from search.output import forgive

Command = Callable[..., Any]
OUTBOX_THREAD = "mlflow-outbox"

PLACES = (
    click.option("--home", help="Folder of everything kept (SEARCH_HOME; default ~/.keras-search)."),
    click.option("--storage", help="Study store, a SQLAlchemy address (SEARCH_STORAGE; default SQLite in the home)."),
    click.option("--tracking-uri", help="MLflow (MLFLOW_TRACKING_URI; default SQLite in the home)."),
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
SLOTS = (
    click.option("--slots", help="How many trials run at once (default: one a GPU, or one for two cores)."),
    click.option("--gpus", help="GPUs to use, like 0,1, or none."),
    click.option("--timeout", help="Stop after this time: seconds, or 30m, 8h. Running trials checkpoint."),
    click.option("--keep", help="Weights of how many best trials to keep, or all (default 5)."),
    click.option("--budget", help="Device-hours of the whole study, like 8gpu-h or 90core-m."),
    click.option("--trial-timeout", help="Most time a trial, over all its attempts; it then fails (30m, 8h, none)."),
    click.option("--stall-timeout", help="End a trial that shows no progress for this long (default 15m; none)."),
    click.option("--trial-memory", help="Most memory of one trial's processes, like 6gb (default: a fair share)."),
    click.option("--max-failures", help="Stop the study after this many failed trials in a row (default 5)."),
)
OFFLINE = click.option(
    "--offline", is_flag=True, help="Start without MLflow; it is brought up to date when it is there."
)
UNTRACKED = click.option("--untracked", is_flag=True, help="Log nothing to MLflow; only with --executor simulate.")
OBJECTIVE = "What to be after instead of the space's own: val_accuracy, params, latency_ms, ... Repeatable: a front."
LIMIT = "What no trial may be beyond, like 'params<=1e6' or 'latency_ms<=5'. Known ones are refused before training."
SEARCH = (
    click.argument("space"),
    click.argument("narrow", nargs=-1, metavar="[KEY=VALUE | KEY=LOW..HIGH | KEY=A,B]..."),
    click.option("--trials", help="Trials in all, those already in the study included."),
    click.option("--epochs", help="Most epochs a trial; a known setting keeps its own where they are fewer."),
    *SLOTS,
    click.option(
        "--sampler", help="Who proposes: auto (default), or one that `samplers` lists, as NAME:OPTION=VALUE,..."
    ),
    click.option("--pruner", help="Who stops early: auto (default), or one that `samplers` lists, in the same way."),
    click.option("--audit", help="Run this share of the stopped trials to their end, to see how often that was wrong."),
    click.option("--seed", help="Fixes every random choice (default 0)."),
    click.option("--study", help="Name of the study; an existing one goes on."),
    click.option("--warm-start", multiple=True, metavar="STUDY", help="Learn from this earlier study (repeatable)."),
    click.option("--backend", help="tensorflow (default, or KERAS_BACKEND) or jax."),
    click.option("--precision", help="auto (default: half on a GPU), float32, mixed_bfloat16, mixed_float16."),
    click.option("--max-params", help="Refuse configurations with more parameters, before training."),
    click.option("--objective", "objectives", multiple=True, metavar="NAME[:max|min]", help=OBJECTIVE),
    click.option("--limit", "limits", multiple=True, metavar="NAME<=NUMBER", help=LIMIT),
    click.option("--dataset", help="Another dataset: its name, path:DIR, path:DIR@SIZE or path:FILE.npz."),
    click.option("--train-images", help="Train on a stratified subset of this many images, or all."),
    click.option("--validation-images", help="Validate on a stratified subset of this many images, or all."),
    click.option("--worker-trials", help="Replace a worker after this many trials (default 25)."),
    click.option("--worker-memory", help="Replace a worker above this many MB (default 4000)."),
    click.option("--executor", help="Who trains: local (default), or simulate, which replays a --table."),
    click.option("--table", help="Recorded trainings, by python -m bench.record, for --executor simulate."),
    click.option("--full", is_flag=True, help="The whole task, also without a GPU."),
    click.option("--baselines-only", is_flag=True, help="The space's known settings, each to its end, and no search."),
)


def _with(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(function: Command) -> Command:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def main() -> None:
    """Run the command line and exit with 0 done, 1 failed, 2 bad input, 3 refused, 130 interrupted."""
    forgive()
    orderly()
    try:
        code = cli.main(standalone_mode=False)
    except SystemExit as ended:
        code = ended.code
    except click.exceptions.Abort as abort:
        if isinstance(abort.__cause__, EOFError):  # click takes it for the end of what was typed
            raise abort.__cause__ from None
        code = INTERRUPTED
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = BAD_INPUT
    except Exception as error:
        code = _explain(error)
    try:
        sys.stdout.flush()
    except OSError as error:  # a full disk
        code = _explain(error)
    _leave(code or 0)


def _leave(code: int) -> None:
    """Exit, without waiting for an MLflow that was given up: what it did not take is on disk."""
    if any(thread.name == OUTBOX_THREAD for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _explain(error: Exception) -> int:
    """Print an error that is meant for people; any other is a fault of ours and keeps its traceback."""
    if isinstance(error, SearchError):
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        return error.exit_code
    from spaces.errors import DatasetError, SpaceError
    from tracking.errors import NoSuchModel, TrackingError

    if isinstance(error, (SpaceError, TrackingError)):
        click.echo(f"error: {error}", err=True)
        named = isinstance(error, NoSuchModel) or not isinstance(error, (TrackingError, DatasetError))
        return BAD_INPUT if named else FAILED
    if type(error).__module__.startswith(("mlflow.", "requests.", "urllib3.")):
        from tracking.faults import one_line

        click.echo(f"error: MLflow: {one_line(error)}; try again when it is back", err=True)
        return FAILED
    if type(error).__module__.startswith(("sqlalchemy.", "optuna.exceptions")):
        from search.settings import hint

        cause = error.__cause__ or error
        reason = str(getattr(cause, "orig", cause)).splitlines()[0]
        click.echo(f"error: the study store failed: {reason}; {hint(reason)}", err=True)
        return FAILED
    if isinstance(error, OSError) and error.errno is not None:
        where = f" at {error.filename}" if error.filename else ""
        click.echo(
            f"error: {error.strerror}{where}; nothing that was recorded is lost: mend that, then go on: "
            "python -m search resume STUDY",
            err=True,
        )
        return FAILED
    raise error


def _usable(settings: Any, offline: bool = False) -> Any:
    """The same settings. Raises InputError where a place they name cannot be used."""
    from search.errors import InputError
    from search.settings import problems, tracking_problem

    place = None if offline else tracking_problem(settings)
    found = problems(settings) + ([place] if place else [])
    if found:
        raise InputError(found)
    return settings


def _registry(home: str, storage: str, tracking_uri: str) -> Any:
    """Where things are, for what only asks the registry. Raises InputError where that cannot be asked."""
    from search.registered import check_registry
    from search.settings import resolve

    settings = resolve(home=home, storage=storage, tracking_uri=tracking_uri)
    check_registry(settings)
    return settings


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Search hyperparameters of Keras image models; every trial is kept in MLflow and none is lost."""


@cli.command()
@JSON
def spaces(as_json: bool) -> None:
    """List the search spaces."""
    from search import report

    report.spaces(as_json)


@cli.command()
@JSON
def samplers(as_json: bool) -> None:
    """List the samplers and pruners with their options."""
    from search import report

    report.members(as_json)


@cli.command()
@_with(*SEARCH, *PLACES, JSON)
def plan(home: str, storage: str, tracking_uri: str, as_json: bool, **asked: Any) -> None:
    """Show what a run would do: the space's size, its corners, the time. Writes nothing."""
    from search import preview
    from search.plan import Request, make
    from search.settings import resolve

    settings = resolve(home=home, storage=storage, tracking_uri=tracking_uri)
    preview.show(make(Request(**asked), settings, check_places=False), settings, as_json)


@cli.command()
@_with(*SEARCH, OFFLINE, UNTRACKED, *PLACES, JSON)
def run(home: str, storage: str, tracking_uri: str, as_json: bool, offline: bool, untracked: bool, **asked: Any) -> int:
    """Run a new study over SPACE (a name, a file, or a KerasTuner model), or go on with the one --study names."""
    from search import report
    from search.plan import Request, make
    from search.settings import resolve

    settings = resolve(home=home, storage=storage, tracking_uri=tracking_uri)
    made = make(Request(**asked, untracked=untracked), settings, offline=offline or untracked)

    from search.study import run as run_study

    ended = run_study(made, settings, quiet=as_json, offline=offline, untracked=untracked)
    return report.outcome(ended, settings, as_json)


@cli.command()
@click.argument("study")
@_with(click.option("--trials", help="A new total."), *SLOTS, OFFLINE, UNTRACKED, *PLACES, JSON)
def resume(
    study: str,
    home: str,
    storage: str,
    tracking_uri: str,
    as_json: bool,
    offline: bool,
    untracked: bool,
    **asked: Any,
) -> int:
    """Go on with STUDY where it stopped."""
    from search import report
    from search.plan import Request
    from search.plan import resume as resumed_plan
    from search.settings import resolve

    settings = resolve(home=home, storage=storage, tracking_uri=tracking_uri)
    _usable(settings, offline or untracked)
    stored = report.stored_plan(study, settings)
    made = resumed_plan(stored, Request(space=stored["space"], study=study, untracked=untracked, **asked))

    from search.study import run as run_study

    ended = run_study(made, settings, quiet=as_json, offline=offline, untracked=untracked)
    return report.outcome(ended, settings, as_json)


@cli.command()
@click.argument("study", required=False)
@_with(*PLACES, JSON)
def status(study: str | None, home: str, storage: str, tracking_uri: str, as_json: bool) -> None:
    """Say how STUDY (the newest where none is named) stands: its trials by state, its best, what runs."""
    from search import report
    from search.settings import resolve

    report.status(study, resolve(home=home, storage=storage, tracking_uri=tracking_uri), as_json)


@cli.command("list")
@_with(*PLACES, JSON)
def list_studies(home: str, storage: str, tracking_uri: str, as_json: bool) -> None:
    """List the studies, the newest last."""
    from search import report
    from search.settings import resolve

    report.studies(resolve(home=home, storage=storage, tracking_uri=tracking_uri), as_json)


@cli.command()
@click.argument("study")
@_with(click.option("--trial", type=int, help="One trial, with its configuration and epochs."), *PLACES, JSON)
def show(study: str, trial: int | None, home: str, storage: str, tracking_uri: str, as_json: bool) -> None:
    """Show the trials of STUDY, or one of them."""
    from search import report
    from search.settings import resolve

    report.show(study, trial, resolve(home=home, storage=storage, tracking_uri=tracking_uri), as_json)


@cli.command()
@click.argument("study")
@_with(click.option("--top", type=click.IntRange(min=1), help="How many (default: one, or a front)."), *PLACES, JSON)
def best(study: str, top: int | None, home: str, storage: str, tracking_uri: str, as_json: bool) -> None:
    """Show the best trials of STUDY; of several objectives, the Pareto front."""
    from search import report
    from search.settings import resolve

    report.best(study, top, resolve(home=home, storage=storage, tracking_uri=tracking_uri), as_json)


@cli.command()
@click.argument("study")
@_with(*PLACES, JSON)
def explain(study: str, home: str, storage: str, tracking_uri: str, as_json: bool) -> int:
    """Say which hyperparameters mattered in STUDY, where the good values lie, and what to narrow next."""
    from search.explain import explain as explain_study
    from search.settings import resolve

    return explain_study(study, resolve(home=home, storage=storage, tracking_uri=tracking_uri), as_json)


@cli.command()
@click.argument("references", nargs=-1, metavar="A B ...")
@_with(
    click.option("--all", "everything", is_flag=True, help="Every hyperparameter, also those that are the same."),
    click.option("--curves", metavar="FILE", help="Draw their learning curves over each other: .png or .html."),
    *PLACES,
    JSON,
)
def compare(
    references: tuple[str, ...],
    everything: bool,
    curves: str | None,
    home: str,
    storage: str,
    tracking_uri: str,
    as_json: bool,
) -> int:
    """Show what differs between studies (STUDY, STUDY:*), trials (STUDY:3) and versions (NAME@champion, NAME/3)."""
    from search.compare import compare as compare_things
    from search.settings import resolve

    settings = resolve(home=home, storage=storage, tracking_uri=tracking_uri)
    return compare_things(references, settings, everything=everything, curves=curves, as_json=as_json)


@cli.command()
@click.argument("study")
@_with(
    click.option("--trial", type=int, help="This trial instead of the best."),
    click.option("--model", help="Name in the registry (default: the space's)."),
    click.option("--baseline", help="Whom a first champion has to beat (default: the space's own; none)."),
    click.option("--min-gain", "least_gain", type=float, default=0.001, show_default=True, help="In accuracy."),
    click.option("--dry-run", is_flag=True, help="Measure and decide, but register nothing."),
    *PLACES,
    JSON,
)
def promote(home: str, storage: str, tracking_uri: str, as_json: bool, **asked: Any) -> int:
    """Measure STUDY's best on the test split; make it `champion` if it is better than the one there is."""
    from search.promote import Asked
    from search.promote import promote as promote_trial
    from search.settings import resolve

    return promote_trial(Asked(**asked), resolve(home=home, storage=storage, tracking_uri=tracking_uri), as_json)


@cli.command()
@click.argument("study")
@_with(
    click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="How many configurations."),
    click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Trainings of each."),
    click.option("--epochs", type=click.IntRange(min=1), help="Most epochs (default: as in the study)."),
    click.option("--full", is_flag=True, help="All the space's images and epochs."),
    click.option("--all-data", is_flag=True, help="On training and validation data, for as long as the best took."),
    click.option("--name", help="Of the study of repeats (default: STUDY-repeat)."),
    click.option("--pruner", help="wilcoxon: no more seeds of what is surely worse than the best; none (default)."),
    *SLOTS,
    OFFLINE,
    *PLACES,
    JSON,
)
def repeat(
    study: str,
    top: int,
    seeds: int,
    epochs: int | None,
    full: bool,
    all_data: bool,
    name: str | None,
    pruner: str | None,
    home: str,
    storage: str,
    tracking_uri: str,
    as_json: bool,
    offline: bool,
    **asked: Any,
) -> int:
    """Train the best of STUDY again over seeds: how good they really are, and how flattering the first figure was."""
    from search.plan import Request
    from search.settings import resolve

    settings = _usable(resolve(home=home, storage=storage, tracking_uri=tracking_uri), offline)

    from search.repeat import Wanted
    from search.repeat import repeat as repeat_study

    wanted = Wanted(study, top, seeds, epochs, full, all_data, name, pruner)
    return repeat_study(wanted, Request(space="", **asked), settings, offline=offline, as_json=as_json)


@cli.command()
@click.argument("model")
@_with(click.option("--reason", default="", help="Why, for the history."), *PLACES, JSON)
def rollback(model: str, reason: str, home: str, storage: str, tracking_uri: str, as_json: bool) -> int:
    """Make the champion before this one champion of MODEL again."""
    from search.past import roll_back

    return roll_back(model, reason, _registry(home, storage, tracking_uri), as_json)


@cli.command()
@click.argument("model")
@_with(
    click.option("--tolerance", type=float, help="Largest difference allowed (default: none on a like processor)."),
    *PLACES,
    JSON,
)
def reproduce(model: str, tolerance: float | None, home: str, storage: str, tracking_uri: str, as_json: bool) -> int:
    """Train the version that MODEL (NAME@champion, NAME/3) means again, and say whether it comes out the same."""
    from search.reproduce import reproduce as train_again

    settings = _registry(home, storage, tracking_uri)
    return train_again(model, settings, tolerance=tolerance, as_json=as_json)


@cli.command()
@click.argument("model")
@_with(*PLACES, JSON)
def history(model: str, home: str, storage: str, tracking_uri: str, as_json: bool) -> int:
    """Show who was champion of MODEL when, by which figures, and why that changed."""
    from search.past import show_history

    return show_history(model, _registry(home, storage, tracking_uri), as_json)


@cli.command()
@click.argument("model")
@click.argument("files", nargs=-1, required=True)
@_with(
    click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="How many classes an image."),
    click.option("--weights", help="Weights of a network of Keras, a file (default: from Keras' cache)."),
    click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values, a line for each class."),
    *PLACES,
    JSON,
)
def predict(
    model: str,
    files: tuple[str, ...],
    top: int,
    weights: str | None,
    as_csv: bool,
    home: str,
    storage: str,
    tracking_uri: str,
    as_json: bool,
) -> int:
    """Say what MODEL (NAME@champion, NAME/3 or keras:ResNet50) sees in FILES and folders of images."""
    from search.predict import predict as predict_files
    from search.settings import resolve

    settings = resolve(home=home, storage=storage, tracking_uri=tracking_uri)
    return predict_files(model, files, settings, top=top, weights=weights, as_json=as_json, as_csv=as_csv)


@cli.command()
@click.argument("model")
@_with(
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option("--port", type=click.IntRange(1, 65535), default=5001, show_default=True, help="Port."),
    *PLACES,
)
def serve(model: str, host: str, port: int, home: str, storage: str, tracking_uri: str) -> int:
    """Serve MODEL (NAME@champion or NAME/3) by HTTP with MLflow's scoring server, its files checked first."""
    from search.serve import serve as serve_model
    from search.settings import resolve

    return serve_model(model, resolve(home=home, storage=storage, tracking_uri=tracking_uri), host, port)


@cli.command()
@click.argument("model")
@_with(
    click.option(
        "--format", "form", type=click.Choice(["keras", "saved_model", "onnx"]), required=True, help="As what."
    ),
    click.option("--to", required=True, metavar="PATH", help="File (.keras, .onnx) or folder to write."),
    click.option("--force", is_flag=True, help="Replace what is there."),
    *PLACES,
    JSON,
)
def export(
    model: str, form: str, to: str, force: bool, home: str, storage: str, tracking_uri: str, as_json: bool
) -> None:
    """Write MODEL (NAME@champion or NAME/3) for other programs, and check that it gives the same probabilities."""
    from search.export import export as export_model
    from search.settings import resolve

    settings = resolve(home=home, storage=storage, tracking_uri=tracking_uri)
    export_model(model, form, to, settings, force=force, as_json=as_json)


@cli.command()
@_with(
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port."),
    click.option("--study", help="Open at this study."),
    click.option("--no-browser", is_flag=True, help="Only serve; open no browser."),
    *PLACES,
)
def ui(host: str, port: int, study: str | None, no_browser: bool, home: str, storage: str, tracking_uri: str) -> int:
    """Open MLflow on what was recorded."""
    from search.settings import resolve
    from search.ui import serve

    return serve(resolve(home=home, storage=storage, tracking_uri=tracking_uri), host, port, study, not no_browser)


@cli.command()
@click.argument("study", required=False)
@_with(
    click.option("--files-are-lost", is_flag=True, help="Where MLflow has no file of a study, do not wait for them."),
    *PLACES,
    JSON,
)
def reconcile(
    study: str | None, files_are_lost: bool, home: str, storage: str, tracking_uri: str, as_json: bool
) -> int:
    """Make study store, MLflow and trial folders agree for STUDY (all where none is named); says what was mended."""
    from search.settings import resolve

    settings = _usable(resolve(home=home, storage=storage, tracking_uri=tracking_uri))

    from search.reconcile import reconcile as reconcile_studies

    return reconcile_studies(study, settings, as_json, files_gone=files_are_lost)


@cli.command()
@click.argument("study")
@_with(click.option("--yes", is_flag=True, help="Do not ask."), *PLACES, JSON)
def delete(study: str, yes: bool, home: str, storage: str, tracking_uri: str, as_json: bool) -> int:
    """Delete STUDY with its runs, weights and files; what was registered stays."""
    from search.settings import resolve

    settings = _usable(resolve(home=home, storage=storage, tracking_uri=tracking_uri))

    from search.remove import delete as delete_study

    return delete_study(study, settings, yes=yes, as_json=as_json)


@cli.command()
@click.argument("study", required=False)
@_with(
    click.option("--keep", type=click.IntRange(min=0), help="Weights of how many best trials stay (default: as run)."),
    click.option("--dry-run", is_flag=True, help="Only say what would go."),
    *PLACES,
    JSON,
)
def gc(
    study: str | None, keep: int | None, dry_run: bool, home: str, storage: str, tracking_uri: str, as_json: bool
) -> int:
    """Remove weights beyond the best, old checkpoints and half-written files of STUDY, or of all studies."""
    from search.settings import resolve

    settings = _usable(resolve(home=home, storage=storage, tracking_uri=tracking_uri))

    from search.remove import gc as collect

    return collect(study, settings, keep=keep, dry_run=dry_run, as_json=as_json)


@cli.command()
@click.option("--benchmark", is_flag=True, help="Also time a convolution on the processor and the GPU (a minute).")
@_with(*PLACES, JSON)
def doctor(home: str, storage: str, tracking_uri: str, benchmark: bool, as_json: bool) -> int:
    """Check devices, packages, data and stores."""
    from search.doctor import examine
    from search.settings import resolve

    return examine(resolve(home=home, storage=storage, tracking_uri=tracking_uri), as_json, benchmark)
