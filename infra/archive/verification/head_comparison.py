"""The comparison of verified chains with heads that are kept outside of the archive."""

from collections.abc import Sequence
from dataclasses import replace

from infra.archive.verification.kept_heads import HeadSource, KeptHead
from infra.archive.verification.tamper_detection import TamperFinding
from infra.archive.verification.verify import LogVerification, Verification


def positions_of(sources: Sequence[HeadSource]) -> dict[str, list[int]]:
    """Return the positions of all heads by log, as ``verify`` takes them."""
    positions: dict[str, list[int]] = {}
    for source in sources:
        for head in source.heads:
            positions.setdefault(head.log, []).append(head.position)
    return positions


def compare_heads(
    verification: Verification, sources: Sequence[HeadSource], log: str | None = None, *, is_whole: bool = True
) -> Verification:
    """Add the findings of the heads to the result of a verification.

    Args:
        verification: The result, with the hashes computed at the positions of the heads (``positions_of``).
        sources: The heads. They were read before the verification began.
        log: The log that was verified; None for every log.
        is_whole: Whether each log was verified from its beginning to its end.
    """
    logs = {each.log: each for each in verification.logs}
    for source in sources:
        for head in source.heads:
            if log in (None, head.log):
                present = logs.get(head.log) or LogVerification.of_missing_log(head.log)
                finding = _difference(present, head, source.origin, is_whole=is_whole)
                if finding and (present.finding is None or finding.position < present.finding.position):
                    logs[head.log] = replace(present, finding=finding)
    return replace(verification, logs=list(logs.values()), heads=sources)


def _difference(present: LogVerification, head: KeptHead, origin: str, *, is_whole: bool) -> TamperFinding | None:
    computed = present.head_hashes.get(head.position)
    if computed is not None and computed != head.hash:
        detail = f"{origin} keeps another hash of this event: the events up to it were changed"
        return TamperFinding(head.position, "changed", detail)
    if computed is None and is_whole and present.reached < head.position:
        detail = f"{origin} keeps the head {head.position}: the newest events, or the whole log, were removed"
        return TamperFinding(present.reached + 1, "missing", detail)
    return None
