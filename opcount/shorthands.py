"""One call that counts a model, and one that prints its layers in the manner of torchinfo."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from warnings import warn

import torch
from torch import nn

from opcount.compat.preserve import preserved
from opcount.counter import OpCounter
from opcount.errors import InputError, UncountedOperatorWarning
from opcount.loaders.request import Loaded
from opcount.loaders.step import forward, training_step
from opcount.model_inputs import Arguments, dtype_and_device, random_tensor
from opcount.reporter import table
from opcount.reporter.module_columns import TORCHINFO, columns_named

if TYPE_CHECKING:
    from typing import TypeAlias

    from opcount.profile import Profile

    Sizes: TypeAlias = "Sequence[int] | Sequence[Sequence[int]] | Mapping[str, Sequence[int]]"

_MODES = ("eval", "train")


def count(model: nn.Module, *args: Any, train: bool = False, dry_run: bool | None = None, **kwargs: Any) -> Profile:
    """Count one call of a model, ``model(*args, **kwargs)``; the model stays as it is.

    Args:
        model: It is counted in eval mode and without gradients, or as ``train`` says.
        args: Of the call.
        train: Count a training step in train mode in place of it: forward, backward from all outputs, and a step of
            AdamW.
        dry_run: True: compute nothing, and fail where that is not possible. False: compute; a training step then runs
            on a copy of the model. None: compute only where a dry run is not possible.
        kwargs: Keyword arguments of the call.

    Raises:
        DryRunError: With ``dry_run=True``: an operator needs values.
        InputError: The model was given a shape in place of a tensor.

    Example:
        >>> profile = count(nn.Linear(10, 20), torch.ones(4, 10))
        >>> profile.macs, profile.params
        (800, 220)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"count: expected an nn.Module, got {model!r} of type {type(model).__name__}. "
            "Count a function as `with OpCounter() as c: function()`."
        )
    arguments = Arguments(args, kwargs)
    try:
        profile = _counted(model, arguments, dry_run=dry_run, train=train)
    except (TypeError, AttributeError) as error:
        shape = next((value for value in (*args, *kwargs.values()) if _is_shape(value)), None)
        if shape is None:
            raise
        raise InputError(
            f"count: expected what the model is called with, got a shape, {shape!r}. Pass a tensor such as "
            f"torch.ones{tuple(shape)}, or call opcount.summary(model, input_size={tuple(shape)})."
        ) from error
    _warn_of_uncounted(profile)
    return profile


def summary(  # noqa: PLR0913  (those of torchinfo's)
    model: nn.Module,
    input_size: Sizes | None = None,
    input_data: Any = None,
    *,
    batch_dim: int | None = None,
    dtypes: Sequence[torch.dtype] | None = None,
    device: torch.device | str | None = None,
    depth: int | None = 3,
    col_names: Sequence[str] = ("output_size", "num_params", "mult_adds"),
    mode: str = "eval",
    dry_run: bool | None = None,
    verbose: bool | int = True,
    **kwargs: Any,
) -> Profile:
    """Print the layers of a model with their shapes, parameters and costs, and return the count.

    The arguments are those of ``torchinfo.summary``; columns may also be named as after ``opcount count --columns``.

    Args:
        model: It stays as it is.
        input_size: Shape of the input with the batch, several shapes, or shapes by the names of arguments. Without it
            and ``input_data`` nothing runs, and parameters alone are printed.
        input_data: The input itself, in place of its shape: a tensor, a list or tuple of arguments, or a dict of
            keyword arguments.
        batch_dim: Where a batch of 1 is inserted into each shape; None: shapes have their batch.
        dtypes: Of the inputs that are made; by default that of the model's parameters.
        device: Of the inputs that are made; by default that of the model.
        depth: Modules below this depth are left out; None: none are.
        col_names: The columns.
        mode: ``"eval"``, or ``"train"``: the mode of the forward; no backward runs.
        dry_run: As for `count`.
        verbose: Whether to print.
        kwargs: Further keyword arguments of the model's call.

    Raises:
        InputError: A shape, a dtype, a column or the mode is none.

    Example:
        >>> profile = summary(nn.Linear(10, 20), (4, 10))
        module  type    output  params  MACs
        ------------------------------------
        model   Linear  4x20       220   800
        <BLANKLINE>
        total: 800 MAC = 1.600 kFLOP at 2 per MAC, 80 activations, 220 parameters
        per sample (batch 4): 200 MAC = 400 FLOP at 2 per MAC
        inputs: input=4x10:float32
        counted: Linear, eval, no_grad, float32, cpu, batch 4, dry run
        convention: fvcore (MACs + arithmetic of norms, 2-D adaptive average pooling, nearest and bilinear 2-D upsampling, grid sampling)
        coverage: every operator is accounted for
    """  # noqa: E501  (the last lines are printed as they are)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"summary: expected an nn.Module, got {model!r} of type {type(model).__name__}. Pass the model."
        )
    if mode not in _MODES:
        raise InputError(f"summary: expected mode 'eval' or 'train', got {mode!r}. Pass one of these.")
    columns = ["type", *(TORCHINFO.get(name, name) for name in col_names)]
    columns_named(columns)
    if input_size is None and input_data is None and not kwargs:
        with OpCounter(model) as counter:
            pass
        profile = counter.profile
    else:
        arguments = _arguments(model, input_size, input_data, batch_dim, dtypes, device)
        arguments = Arguments(arguments.args, {**arguments.kwargs, **kwargs})
        profile = _counted(model, arguments, dry_run=dry_run, train=mode == "train", forward_only=True)
        _warn_of_uncounted(profile)
    if verbose:
        print(table.render(profile, depth, columns=columns))  # noqa: T201  (it is what was asked for)
    return profile


def _counted(
    model: nn.Module, arguments: Arguments, *, dry_run: bool | None, train: bool, forward_only: bool = False
) -> Profile:
    """Count a call dry where that is possible, else for real, as ``dry_run`` says."""
    if dry_run is not False:
        from opcount.dryrun import skeleton  # noqa: PLC0415  (fake tensors take a second to import)

        try:
            return _run(skeleton(model), arguments, train=train, forward_only=forward_only, dry=True)
        except Exception:
            if dry_run or any(parameter.is_meta for parameter in model.parameters()):
                raise
    gradients = [(value, value.grad) for value in _tensors(arguments) if value.is_leaf and value.requires_grad]
    with preserved(model, *_tensors(arguments)):
        try:
            ran = copy.deepcopy(model) if train and not forward_only else model
            return _run(ran, arguments, train=train, forward_only=forward_only, dry=False)
        finally:
            for value, gradient in gradients:
                value.grad = gradient


def _run(model: nn.Module, arguments: Arguments, *, train: bool, forward_only: bool, dry: bool) -> Profile:
    if model.training != train:
        model.train(train)
    counter = OpCounter(model, dry_run=dry)
    counter._warns = False  # noqa: SLF001  (the caller warns, at the line of the user's own call)
    loaded = Loaded(model, arguments, "library", None)
    with torch.set_grad_enabled(train and not forward_only), counter:
        if train and not forward_only:
            training_step(loaded)
        else:
            forward(loaded)
    return counter.profile


def _warn_of_uncounted(profile: Profile) -> None:
    if profile.coverage.uncounted:
        text = f"{profile.coverage.verdict()}. Register one with @opcount.formula."
        warn(text, UncountedOperatorWarning, stacklevel=3)


def _tensors(arguments: Arguments) -> list[torch.Tensor]:
    values = (*arguments.args, *arguments.kwargs.values())
    return [value for value in values if isinstance(value, torch.Tensor)]


def _is_shape(value: object) -> bool:
    return isinstance(value, (tuple, list)) and bool(value) and all(type(size) is int for size in value)


def _arguments(
    model: nn.Module,
    input_size: Sizes | None,
    input_data: Any,
    batch_dim: int | None,
    dtypes: Sequence[torch.dtype] | None,
    device: torch.device | str | None,
) -> Arguments:
    """Return the arguments of the model's call: those that were given, or random ones of the sizes that were."""
    if input_data is not None:
        if input_size is not None:
            raise InputError("summary: expected input_size or input_data, got both. Leave one out.")
        return Arguments.of(tuple(input_data) if isinstance(input_data, list) else input_data)
    named = input_size if isinstance(input_size, Mapping) else None
    given = list(named.values()) if named is not None else [input_size] if _is_shape(input_size) else input_size
    shapes = list(given) if isinstance(given, (tuple, list)) else []
    if not all(_is_shape(shape) and min(shape) > 0 for shape in shapes) or (input_size is not None and not shapes):
        raise InputError(
            f"summary: expected a shape of positive whole numbers with the batch, such as (1, 3, 224, 224), or a list "
            f"of such shapes, got {input_size!r} of type {type(input_size).__name__}. Pass tensors as input_data."
        )
    if dtypes is not None and len(dtypes) != len(shapes):
        raise InputError(f"summary: expected a dtype for each of {len(shapes)} inputs, got {dtypes!r}.")
    usual, home = dtype_and_device(model)
    made = []
    for place, shape in enumerate(shapes):
        sizes = list(shape)
        if batch_dim is not None:
            sizes.insert(batch_dim, 1)
        dtype = usual if dtypes is None else dtypes[place]
        where = home if device is None else device
        floats = dtype.is_floating_point or dtype.is_complex
        make = random_tensor if floats else _zeros
        made.append(make(tuple(sizes), dtype, where))
    return Arguments((), dict(zip(named, made, strict=True))) if named is not None else Arguments(tuple(made), {})


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype, device=device)
