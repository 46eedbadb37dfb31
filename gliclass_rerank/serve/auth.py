"""API keys, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.requests import Request

from gliclass_rerank.serve.core import RequestError

_SCHEME = "bearer "


class Keys:
    """Accepted keys.

    Args:
        keys: Keys; none for open access.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def check(self, request: Request) -> None:
        """Refuse a request without an accepted key, as a bearer token or in `x-api-key`, with a `RequestError`."""
        if not self._digests:
            return
        given = request.headers.get("authorization", "")
        is_bearer = given[: len(_SCHEME)].lower() == _SCHEME
        digest = _digest(given[len(_SCHEME) :].strip() if is_bearer else request.headers.get("x-api-key", ""))
        # All are compared, so that the time does not tell which one is alike.
        if not any([hmac.compare_digest(digest, accepted) for accepted in self._digests]):  # noqa: C419
            raise RequestError("unauthorized", "a valid API key is needed, as `Authorization: Bearer KEY`")


def _digest(key: str) -> bytes:
    # Of one length, whatever the key's.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
