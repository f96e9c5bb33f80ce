"""What can go wrong, grouped by what to do about it. Messages carry codes and UIDs, never a patient's data."""


class TriageError(Exception):
    """Anything this service raises on purpose."""


class Unavailable(TriageError):
    """A peer did not answer, or not yet: offer the work again later."""


class ArchiveUnavailable(Unavailable):
    """The image archive could not be reached, or returned less than it counts."""


class IncompleteStudy(ArchiveUnavailable):
    """The archive gave fewer instances of a study than it lists or counts."""


class EhrUnavailable(Unavailable):
    """The FHIR server could not be reached, or asked us to come back later."""


class Rejected(TriageError):
    """This input can never work as it is: show it to a person."""


class UnusableRadiograph(Rejected):
    """The image cannot be assessed; *reason* is a code of `triage.domain.eligibility`, the text names tag or cause."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class MalformedMessage(Rejected):
    """A message that cannot be read; *where* names the segment and field, or the byte offset."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(f"{what} at {where}" if where else what)
        self.what = what
        self.where = where


class RefusedByPeer(Rejected):
    """A peer understood the request and refused it; sending it again cannot help."""


class Conflict(TriageError):
    """Already done, or not allowed from this state: acknowledge, change nothing."""


class Misconfigured(TriageError):
    """A setting is missing or contradicts another: stop at start-up."""
