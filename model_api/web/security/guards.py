"""What the service asks before it does something for a key, and tells after it."""

from dataclasses import dataclass, field

from model_api.errors import Forbidden
from model_api.repository.keys import Rate
from model_api.web.callers import Caller
from model_api.web.requests import ApiRequest
from model_api.web.security.limits import Limiter, headers


@dataclass
class RequestGuard:
    """Of one request. It counts once for each model, however often that is asked for."""

    caller: Caller
    limiter: Limiter
    request: ApiRequest
    _admitted: set[str] = field(default_factory=set)

    def admit(self, model: str) -> None:
        """Raises Forbidden, TooManyRequests."""
        caller = self.caller
        if model and caller.models is not None and model not in caller.models:
            raise Forbidden(f"{caller.id} isn't for {model}, but for {', '.join(sorted(caller.models))}")
        if caller.rates and model not in self._admitted:
            self._admitted.add(model)
            self.request.limit_headers = headers(self.limiter.admit(caller.id, model, caller.rates))

    def spend(self, model: str, n_tokens: int) -> None:
        """The headers tell what is left after that."""
        if self.caller.rates:
            left = self.limiter.spend(self.caller.id, model, self.caller.rates, n_tokens)
            self.request.limit_headers = headers(left)


@dataclass(frozen=True)
class JobGuard:
    """Of a job, which was admitted when it was asked for."""

    caller: str
    rates: tuple[Rate, ...]
    limiter: Limiter

    def admit(self, model: str) -> None:
        """It was, then."""

    def spend(self, model: str, n_tokens: int) -> None:
        self.limiter.spend(self.caller, model, self.rates, n_tokens)
