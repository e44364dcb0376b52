"""How much of the prefill is done: counted in positions, told as events where they are asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from serving import jpeg

from aesedge.scheduling.requests import DecodeTokens, Job, PrefillEmbeddings, Reserve
from aesedge.serve.prefill_progress import PrefillProgress

if TYPE_CHECKING:
    from serving import Running


def job(seen: list[Any]) -> Job[str]:
    try:
        seen.append((yield Reserve(1, 10)))
        yield PrefillEmbeddings([(1, [0] * 6)])
        seen.append((yield DecodeTokens([(1, [0] * 4)])))
    except ValueError as error:
        seen.append(str(error))
        yield Reserve(1, 0)
    finally:
        seen.append("closed")
    return "result"


def test_positions_are_counted_while_they_are_done() -> None:
    seen: list[Any] = []
    progress = PrefillProgress(10)
    watched = progress.watch(job(seen))
    assert isinstance(next(watched), Reserve)
    assert progress.done() == 0
    request = watched.send("reserved")
    assert isinstance(request, PrefillEmbeddings)
    request.n_done = 3  # as the scheduler does, batch by batch
    assert progress.done() == 0.3
    request.n_done = 6
    request = watched.send(None)
    assert isinstance(request, DecodeTokens)
    assert progress.done() == 0.6
    request.n_done = 4
    with pytest.raises(StopIteration) as stopped:
        watched.send("index")
    assert (progress.done(), stopped.value.value, seen) == (1.0, "result", ["reserved", "index", "closed"])


def test_errors_and_the_end_reach_the_job() -> None:
    seen: list[Any] = []
    watched = PrefillProgress(10).watch(job(seen))
    next(watched)
    assert isinstance(watched.throw(ValueError("full")), Reserve)
    watched.close()
    assert seen == ["full", "closed"]


def test_a_stream_tells_it_when_asked(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aesedge.serve.answer_events._LOOK_S", 0.001)
    body = served.photo(jpeg(77), "?progress=1&words=0", accept="text/event-stream").body.decode()
    names = re.findall(r"^event: (\w+)$", body, re.MULTILINE)
    assert names[-3:] == ["score", "attributes", "done"]
    assert set(names[:-3]) == {"progress"}
    shares = [float(share) for share in re.findall(r'data: {"done":([0-9.]+)}', body)]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert "progress" not in served.photo(jpeg(78), accept="text/event-stream").body.decode()
