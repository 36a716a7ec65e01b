"""One authority for all tests of the services, and a door to a node that applies at once."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.services.certificates import Authority
from tests.services.direct_node import DirectNode
from tests.services.door import Door, open_door


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def node() -> Iterator[DirectNode]:
    made = DirectNode()
    yield made
    made.hashes.close()


@pytest.fixture
async def door(authority: Authority, node: DirectNode) -> AsyncIterator[Door]:
    async with open_door(authority, node.roles_of, node.services, node.is_revoked) as opened:
        yield opened
