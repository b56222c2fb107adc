"""Keep two systems off one queue: a coordinator serves it only with the models that it was first served with."""

from collections.abc import Mapping

from gsi.errors import RetryableError
from gsi.jobs.connection import RedisError
from gsi.jobs.errors import OtherModelsError
from gsi.jobs.queue_models import QueueModels, Trio
from gsi.model_info import ModelInfo
from services.coordinator import metrics

FIX = (
    "give this system a queue of its own; if it is to have this one: gsi queue models --forget, or "
    "GSI_COORDINATOR_ADOPT_QUEUE=true"
)


class QueueGuard:
    """Asks the queue whether this coordinator's models are its own. ``adopts``: the queue takes whatever they are."""

    def __init__(self, queue_models: QueueModels, *, adopts: bool) -> None:
        self._queue_models = queue_models
        self._adopts = adopts
        self._noted: Trio | None = None  # what the queue has had from this coordinator

    async def check(self, served: Mapping[str, ModelInfo]) -> None:
        """Claim the queue for these models. Raises OtherModelsError, and RetryableError while Redis is unavailable.

        A coordinator whose services come back with other models takes the queue with them: the services were changed on
        purpose, and no other system was let in.
        """
        try:
            self._noted = await self._queue_models.claim(served, self._noted, adopts=self._adopts)
        except OtherModelsError as error:
            metrics.HAS_QUEUES_MODELS.set(0)
            raise OtherModelsError(f"{error}; {FIX}") from None
        except RedisError as error:
            raise RetryableError(f"redis: {error}") from error
        metrics.HAS_QUEUES_MODELS.set(1)
