"""What every backend promises of registering: a registration that arrives late registers nothing."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from gatecast.errors import StorageUnavailable
from gatecast.storage.contract import Claim
from gatecast.testing.contracts.backend import GATEWAY, OTHER_GATEWAY, EngineBackend, epoch_of


def _claim(owner: str = "an-outbox") -> Claim:
    return Claim(owner, str(uuid4()))


class RegisteringContract(EngineBackend):
    """`register` under a claim, `claim`, and `identity`."""

    async def test_a_gateway_is_registered_under_the_newest_claim(self, tmp_path: Path) -> None:
        """Once; and as often as there are gateways."""
        async with self.open_with(tmp_path) as storage:
            claim = _claim()
            await storage.log.claim(claim)
            assert await storage.log.register(GATEWAY, claim=claim)
            assert not await storage.log.register(GATEWAY, claim=claim)
            assert await storage.log.register(OTHER_GATEWAY, claim=claim)
            assert (await storage.log.changed_since(0)).heads == {GATEWAY: 0, OTHER_GATEWAY: 0}

    async def test_nothing_is_registered_under_a_void_claim(self, tmp_path: Path) -> None:
        """Neither under an earlier one, nor under one that was never made; also where there is a log already."""
        async with self.open_with(tmp_path) as storage:
            earlier, later = _claim(), _claim()
            await storage.log.claim(earlier)
            await storage.log.claim(later)
            for void in (earlier, _claim(), _claim("another-outbox")):
                with pytest.raises(StorageUnavailable):
                    await storage.log.register(GATEWAY, claim=void)
            assert not (await storage.log.changed_since(0)).heads
            assert await storage.log.register(GATEWAY, claim=later)
            with pytest.raises(StorageUnavailable):
                await storage.log.register(GATEWAY, claim=earlier)

    async def test_a_claim_concerns_its_owner_alone(self, tmp_path: Path) -> None:
        """Two outboxes have one log, and others register without a claim."""
        async with self.open_with(tmp_path) as storage:
            first, second = _claim("an-outbox"), _claim("another outbox.*>")
            await storage.log.claim(first)
            await storage.log.claim(second)
            assert await storage.log.register(GATEWAY, claim=first)
            assert await storage.log.register(OTHER_GATEWAY, claim=second)
            assert await storage.log.register("a-third-one")

    async def test_the_identity_outlives_a_history(self, tmp_path: Path) -> None:
        """It belongs to the log, and is the same in every pod; another log has another one."""
        async with self.open_with(tmp_path) as storage:
            identity = await storage.log.identity()
            epoch = await epoch_of(storage)
            renewed = await storage.log.renew_epoch(epoch)
            assert await storage.log.renew_epoch(renewed) != renewed
            assert await storage.log.identity() == identity
            async with self.open_second(tmp_path) as second:
                assert await second.log.identity() == identity
