"""The place of an operator: the module that called it, and the phase."""

from opcount.scope.class_names import ClassNames
from opcount.scope.frame import Frame, Row
from opcount.scope.scopes import Scopes
from opcount.scope.thread import BACKWARD, FORWARD, OPTIMIZER, RECOMPUTE, Scope

__all__ = ["BACKWARD", "FORWARD", "OPTIMIZER", "RECOMPUTE", "ClassNames", "Frame", "Row", "Scope", "Scopes"]
