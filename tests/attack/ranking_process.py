"""A process that ranks a list too long to wait for; says `ranking` before it begins.

python ranking_process.py WAY MODEL [SETTINGS AS JSON]
"""

import asyncio
import json
import sys
import threading
import time

import torch

from gliclass_rerank import Reranker

NUM_PASSAGES = 20_000
PASSAGES = [f"passage {number} " + "oil the chain and wax it in dry weather " * 4 for number in range(NUM_PASSAGES)]


def in_main(reranker):
    reranker.rank("chain", PASSAGES)


def in_daemon(reranker):
    threading.Thread(target=reranker.rank, args=("chain", PASSAGES), daemon=True).start()
    time.sleep(1)
    sys.exit(7)


def in_loop(reranker):
    asyncio.run(reranker.arank("chain", PASSAGES))


def timed_out(reranker):
    async def main():
        await asyncio.wait_for(reranker.arank("chain", PASSAGES), 1)

    try:
        asyncio.run(main())
    except (asyncio.TimeoutError, TimeoutError):
        sys.exit(7)


def cancelled(reranker):
    async def main():
        tasks = [asyncio.create_task(reranker.arank("chain", PASSAGES)) for _ in range(6)]
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in found)

    asyncio.run(main())
    # The instance is as good as new, and nothing of what was cancelled is in the way.
    assert len(reranker.rank("chain", PASSAGES[:3])) == 3
    sys.exit(7)


def abandoned(reranker):
    loop = asyncio.new_event_loop()
    task = loop.create_task(reranker.arank("chain", PASSAGES))
    loop.run_until_complete(asyncio.sleep(1))
    sys.exit(7 if not task.done() else 1)


def main():
    way, model, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3] if len(sys.argv) > 3 else "{}")
    torch.set_num_threads(1)
    reranker = Reranker(model, device="cpu", **{"backend": "torch", **settings})
    reranker.rank("chain", PASSAGES[:2])
    sys.stdout.write("ranking\n")
    sys.stdout.flush()
    globals()[way](reranker)


if __name__ == "__main__":
    main()
