"""Sees every operator that runs, decides once how to price it, and charges it to the scope."""

from opcount.interceptor.crew import Crew
from opcount.interceptor.mode import Interceptor
from opcount.interceptor.plan import PassThrough, Plan, Planner
from opcount.interceptor.surroundings import undisturbed

__all__ = ["Crew", "Interceptor", "PassThrough", "Plan", "Planner", "undisturbed"]
