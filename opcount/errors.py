"""One exception for each remedy; every message shows the value and what to do instead."""

from __future__ import annotations

from typing import Any


class OpcountError(Exception):
    """Base of all errors that opcount raises on purpose."""


class BaselineError(OpcountError, ValueError):
    """A stored baseline is corrupt, or of a format that this version does not read."""


class MissingBaselineError(BaselineError, AssertionError):
    """A test has no stored baseline yet."""


class BudgetError(OpcountError, ValueError):
    """A budget is malformed."""


class BudgetExceededError(OpcountError, AssertionError):
    """A region of code costs more, or less, than its budget says.

    Attributes:
        evidence: Lines that show where the count comes from, printed below the message.
    """

    def __init__(self, message: str, evidence: str = "") -> None:
        super().__init__(message)
        self.evidence = evidence


class CounterStateError(OpcountError, RuntimeError):
    """A counter was used in an invalid order: entered twice, read before it ran, ..."""


class ConventionError(OpcountError, ValueError):
    """Unknown convention, or two counts under different ones combined."""


class DeviceError(OpcountError, ValueError):
    """A device is not known, or has no peak for a dtype, or its numbers are none."""


class FormulaError(OpcountError, ValueError):
    """A formula was registered for a wrong target, or twice, or did not return a `Cost`."""


class DryRunError(OpcountError, RuntimeError):
    """An operator needs values that a dry run does not have, or is given a tensor of a dry run that is over.

    Attributes:
        operator: Its name; empty if the value was not needed by an operator of PyTorch.
        module: The path of the module that was running; empty: the model itself.
        file: The program's file that was running.
        line: The line in it.
    """

    operator = ""
    module = ""
    file = ""
    line = 0


class InputError(OpcountError, ValueError):
    """The input of a model cannot be built from what was given."""


class LoadError(OpcountError):
    """A model cannot be built from the name, the file or the config that was given."""


class ProfileFormatError(OpcountError, ValueError):
    """A stored profile is corrupt, or of a schema that this version does not read."""


class RankError(OpcountError):
    """A rank of a job did not give its count in time: it has died, hangs, or runs something else.

    Attributes:
        missing: The numbers of the ranks that did not answer.
        ranks: The counts of those that did, as `opcount.distributed.Ranks`.
    """

    missing: tuple[int, ...] = ()
    ranks: Any = None


class SamplingError(OpcountError, ValueError):
    """A sampled profile was used where a complete one is needed, or a measured one was added to an extrapolated one."""


class UncountedOperatorError(OpcountError):
    """With ``strict=True``: operators ran that no formula, rule or declaration explains."""


class UncountedOperatorWarning(UserWarning):
    """Operators ran that no formula, rule or declaration explains: the total is a lower bound."""
