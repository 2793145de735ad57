"""How often somebody may be refused at the web face, each address by itself."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil

from roost.pace import Bucket
from roost.web_visitors import source

RATE = 2.0  # a second
BURST = 120.0
REFUSED = 1  # what a refusal costs, or a page that everybody may see
FORGED = 4  # a webhook's post that is not signed as it should be
ADDRESSES = 10_000


class Toll:
    """What unproven visitors spend, in a table of bounded size: the address unseen for longest makes room.

    Whoever has a session or a right signature spends nothing and is never held up. That is more than politeness:
    anybody can have a platform post to a stranger's webhook, from the addresses that its true posts come from.
    """

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def spend(self, address: str, cost: int = REFUSED) -> int:
        """Take `cost` from an address. Returns 0, or the seconds to wait where it has spent too much already."""
        bucket = self._bucket(source(address))
        if not bucket.has(cost):
            return ceil(cost / bucket.rate)
        for _ in range(cost):
            bucket.take()
        return 0

    def _bucket(self, key: str) -> Bucket:
        bucket = self._buckets.setdefault(key, Bucket(RATE, BURST))
        self._buckets.move_to_end(key)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return bucket
