"""Tests that are coroutines."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec

P = ParamSpec("P")
SECONDS_MAX: Final = 100.0


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run the test on a loop of its own. It fails as well for an error that nobody looked at, and
    for a task that it left behind."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        unseen: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(
                lambda loop, context: unseen.append(context)
            )
            async with asyncio.timeout(SECONDS_MAX):
                await test(*args, **kwargs)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not {task for task in left if task.get_name() == "zkstore-client"}

        asyncio.run(main())
        gc.collect()  # what is lost unseen is told when it is collected
        assert not unseen, unseen

    return run
