"""Sees every operator that runs, decides once how to price it, and charges it to the scope."""

from opcount.interceptor.answers import UNKNOWN, Answers
from opcount.interceptor.crew import Crew
from opcount.interceptor.mode import Interceptor
from opcount.interceptor.observe import observe
from opcount.interceptor.plan import PassThrough, Plan, Planner
from opcount.interceptor.surroundings import attention_in_the_open
from opcount.interceptor.whole import Call, whole_calls

__all__ = [
    "UNKNOWN",
    "Answers",
    "Call",
    "Crew",
    "Interceptor",
    "PassThrough",
    "Plan",
    "Planner",
    "attention_in_the_open",
    "observe",
    "whole_calls",
]
