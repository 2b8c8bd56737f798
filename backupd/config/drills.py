"""The section about restore drills: what a region must live up to."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from backupd.config.section import Section
from backupd.config.text.fields import Approval, Duration, within

_SECOND = timedelta(seconds=1)
_HOUR = timedelta(hours=1)


class ObjectivesSection(Section):
    """`[regions.NAME.objectives]`: a drill beyond one of these fails, and one that does not come is missed."""

    rpo: Annotated[Duration, within(_SECOND)] | None = None
    """The most that may be lost: from the newest snapshot that can be restored to the present."""
    rto: Annotated[Duration, within(_SECOND)] | None = None
    """From the beginning of a restore to a database that was checked."""
    drill_every: Annotated[Duration, within(_HOUR)] | None = None
    """The longest time between two drills; None: none is missed."""
    approval: Approval | None = None
    """Where it is written who approved them."""
