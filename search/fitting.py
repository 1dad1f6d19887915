"""Whether a space works and what was asked of it fits: narrowings, image counts, baselines."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from search.goals import known
from search.objectives import SHORT, Limit, Objective, read_limits, read_objectives
from search.reader import Reader
from search.trial.spec import KNOWN
from spaces import Baseline, Defaults, HyperParameters, RandomDraws, Recipe, Replay, Space, canonical, declared
from spaces._find import line_of
from spaces._hp import narrow
from spaces._space import Config
from spaces.datasets import DataSpec, describe
from spaces.errors import BuildFailed, DatasetError, SpaceError

Images = tuple[int | None, int | None]  # to train on and to validate on; None is all


def space_problems(space: Space, read: Reader) -> bool:
    """Whether the space itself is wrong; what its functions return is tried on its defaults and a few draws."""
    before = len(read.problems)
    where = f"{space.path}:1:"
    try:
        data, names = describe(space.dataset), set(declared(space))
    except DatasetError as error:
        read.problems.append(str(error))
        return True
    except Exception as error:
        read.problems.append(_in_space(space, "sample", error))
        return True
    # One configuration that fails is its own fault, found when it is drawn; the defaults, or all, are the space's.
    faults = [_fault(space, hp, data) for hp in (Defaults(), *(RandomDraws(seed) for seed in range(4)))]
    if faults[0] or all(faults):
        read.problems.append(next(f for f in faults if f))
        return True
    if space.direction not in ("maximize", "minimize"):
        read.problems.append(f"{where} direction={space.direction!r}: choose maximize or minimize")
    if min(space.epochs, space.trials) < 1:
        read.problems.append(f"{where} epochs={space.epochs}, trials={space.trials}: both must be 1 or more")
    for baseline in space.baselines:
        unknown = sorted(set(baseline.config) - names)
        if unknown:
            read.problems.append(f"{where} baseline {baseline.name} names {', '.join(unknown)}, which is never drawn")
    unknown = sorted(set(space.columns) - names)
    if unknown:
        read.problems.append(f"{where} columns name {', '.join(unknown)}, which is never drawn")
    return len(read.problems) > before


def _fault(space: Space, hp: HyperParameters, data: DataSpec) -> str:
    """What is wrong with the configuration that `hp` draws; empty where nothing is."""
    step = "sample"
    try:
        config = space.sample(hp)
        if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
            raise TypeError(f"it returned {config!r:.60}, not a dict by hyperparameter name")
        canonical(config)
        step = "params"
        if not isinstance(count := space.params(config, data), int):
            raise TypeError(f"it returned {count!r:.60}, not a whole number")
        step = "multiply_adds"
        space.multiply_adds(config, data)
        step = "recipe"
        if not isinstance(recipe := space.recipe(config), Recipe):
            raise TypeError(f"it returned {recipe!r:.60}, not a Recipe")
    except Exception as error:
        return _in_space(space, step, error)
    return ""


def check_narrowings(space: Space, narrowings: Mapping[str, str], read: Reader) -> None:
    try:
        known = declared(space)
    except Exception as error:
        read.problems.append(_in_space(space, "sample", error))
        return
    for name, text in narrowings.items():
        if name in known:
            read.attempt(lambda n=name, t=text: narrow(known[n], t))  # type: ignore[misc]
        else:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            read.problems.append(
                f"{name}={text}: space {space.name} has no hyperparameter {name!r}.{hint} It has: {', '.join(known)}"
            )


def _in_space(space: Space, function: str, error: Exception) -> str:
    assert space.path is not None
    where, words = f"{space.path}:{line_of(error, space.path)}", f"{type(error).__name__}: {error}"
    if isinstance(error, BuildFailed):
        function, words = error.function, str(error)
    text = f"{where}: {function}() failed: {words}"
    return text.splitlines()[0]


def images_there(space: Space, images: Images) -> Images:
    """As many images to train and to validate on as are asked for, where the dataset has them; else None, for all."""
    try:
        data = describe(space.dataset)
    except DatasetError:  # said elsewhere
        return images
    train, validation = images
    return _there(train, data, data.fitting_size), _there(validation, data, data.validation_size)


def _there(count: int | None, data: DataSpec, there: int) -> int | None:
    return None if count is None or count >= there else max(count, data.classes)


def check_images(space: Space | None, train: int | None, validation: int | None, read: Reader) -> None:
    if space is None:
        return
    data = read.attempt(lambda: describe(space.dataset))
    if data is None:
        return
    parts = {
        "--train-images": (train, data.fitting_size),
        "--validation-images": (validation, data.validation_size),
    }
    for flag, (limit, there) in parts.items():
        if limit is not None and not data.classes <= limit <= there:
            read.problems.append(f"{flag} {limit}: {data.name} has {there}; give {data.classes} to {there}, or all")


def asked_goals(
    space: Space | None, objectives: Sequence[str], limits: Sequence[str], read: Reader
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The objectives and the limits asked for, as a plan has them."""
    if space is None or space.direction not in SHORT or not (objectives or limits):  # the second is said elsewhere
        return (), ()
    try:
        classes = describe(space.dataset).classes
    except DatasetError:  # said elsewhere
        return (), ()
    own = Objective(space.metric, space.direction)
    found, bounds = read_objectives(objectives, own, classes, read), read_limits(limits, own, classes, read)
    return tuple(map(str, found)), tuple(map(str, bounds))


def choose_baselines(
    space: Space, narrowings: Mapping[str, str], epochs: int, max_params: int | None, limits: Sequence[Limit] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The baselines to run and, for the others, why not. What the cut narrowed binds searched trials and baselines."""
    chosen, left_out = [], []
    for baseline in space.baselines:
        reason = _unfit(space, baseline, narrowings, epochs, max_params, limits)
        if reason:
            left_out.append(f"baseline {baseline.name} is left out: {reason}")
        else:
            chosen.append(baseline.name)
    return tuple(chosen), tuple(left_out)


def _unfit(
    space: Space,
    baseline: Baseline,
    narrowings: Mapping[str, str],
    epochs: int,
    max_params: int | None,
    limits: Sequence[Limit],
) -> str | None:
    if baseline.epochs > epochs and not baseline.always:
        return f"it takes {baseline.epochs} epochs, the study has {epochs}"
    try:
        config = space.sample(Replay(baseline.config, narrowings))
        data = describe(space.dataset)
        count = space.params(config, data)
    except SpaceError as error:
        return str(error)
    if max_params is not None and count > max_params:
        return f"it has {count:,} parameters, more than --max-params {max_params:,}"
    return over_known(space, config, data, limits)


def over_known(space: Space, config: Config, data: DataSpec, limits: Sequence[Limit]) -> str | None:
    """Which limit a configuration is known to break before it is trained; None where it breaks none."""
    for limit in limits:
        if limit.name in KNOWN and limit.broken(value := known(limit.name, space, config, data)):
            return f"{limit.words(value)} (--limit '{limit}')"
    return None
