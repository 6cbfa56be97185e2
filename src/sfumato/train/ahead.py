"""Draw the next batches in threads while the present one is learned from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from sfumato.train.target import Batch, Source


def batches(source: Source, numbers: Iterator[Sequence[int]], workers: int) -> Iterator[Batch]:
    """The batches of samples with these numbers, in order.

    Args:
        workers: threads, each of which is one batch ahead; 0 draws when asked.
    """
    if not workers:
        yield from (source.batch(indices) for indices in numbers)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="samples") as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for indices in numbers:
                waiting.append(pool.submit(source.batch, indices))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
