"""What a process keeps of a run: the state, and objects that are made once. Public names only."""

from __future__ import annotations

from vecferry.run.scope import PROCESS as PROCESS
from vecferry.run.scope import RunScope as RunScope
from vecferry.run.scope import Scope as Scope
from vecferry.run.scope import end_run as end_run
from vecferry.run.scope import run_scope as run_scope
from vecferry.run.state import GRACE_ROWS as GRACE_ROWS
from vecferry.run.state import Phase as Phase
from vecferry.run.state import RunState as RunState
from vecferry.run.state import RunStatus as RunStatus
from vecferry.run.state import run_state as run_state
