"""What goes wrong with a call, as AWS names it (aws-batch.md §14.2)."""

from __future__ import annotations

from collections.abc import Iterable


class Failure(Exception):
    """`code` goes into `x-amzn-errortype`, the text into `message`."""

    status = 500
    code = "ServerException"


class ClientFailure(Failure):
    """The caller's fault; tried again it fails again."""

    status = 400
    code = "ClientException"


class AccessDenied(Failure):
    status = 403
    code = "AccessDeniedException"


class MethodNotAllowed(Failure):
    """Something is there, for other methods."""

    status = 405
    code = "MethodNotAllowedException"

    def __init__(self, method: str, path: str, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"{path[:128]} is not for {method}, but for {self.allowed}")


class TooManyRequests(Failure):
    """`retry_after_s`: when it may be tried again."""

    status = 429
    code = "TooManyRequestsException"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class ServerFailure(Failure):
    """Ours; an SDK tries again."""


class NotAuthentic(Failure):
    """Who sent it could not be established; `code` says how."""

    status = 403

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)
