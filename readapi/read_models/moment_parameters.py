"""The query parameters of a moment in the past, on one of two timelines."""

from pydantic import ValidationInfo, field_validator

from projections.queries import Timeline
from readapi.http.parameters import Moment, Parameters


class MomentParameters(Parameters):
    """The moment of a query about the past. At most one of the parameters is given."""

    as_of: Moment | None = None
    """Answer as the read model would have answered at this moment, from the events recorded until then. ISO 8601 (UTC
    if there is no offset) or epoch seconds, not in the future. Needs the archive."""
    as_of_valid: Moment | None = None
    """Answer with the rows that were valid at this moment, from all events known now. Same format as ``as_of``. Needs
    the archive."""

    @field_validator("as_of_valid")
    @classmethod
    def _check_single_moment(cls, moment: float | None, others: ValidationInfo) -> float | None:
        if moment is not None and others.data.get("as_of") is not None:
            raise ValueError("cannot be combined with as_of")
        return moment

    @property
    def past(self) -> tuple[Timeline, float] | None:
        """The timeline and the moment in the past, in epoch seconds. None for the present."""
        if self.as_of is not None:
            return "recorded", self.as_of
        if self.as_of_valid is not None:
            return "valid", self.as_of_valid
        return None
