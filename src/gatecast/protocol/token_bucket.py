"""A token bucket: a rate limit that refills with time."""

from __future__ import annotations


class TokenBucket:
    """Allows `rate` per second on average and `burst` at once."""

    def __init__(self, rate: float, burst: float, *, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """Take tokens, if there are enough; a refused take takes nothing."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True
