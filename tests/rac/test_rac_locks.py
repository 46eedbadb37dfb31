import threading
import time

import pytest

from gliclass_rerank.examples.locks import SharedLock


def started(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_readers_share_and_a_writer_waits_for_all_of_them():
    lock, inside, release, events = SharedLock(), threading.Barrier(4), threading.Event(), []

    def read():
        with lock.reading():
            inside.wait(5)
            release.wait(5)
            events.append("read")

    def write():
        with lock.writing():
            events.append("written")

    readers = [started(read) for _ in range(3)]
    inside.wait(5)  # all three are in at once
    writer = started(write)
    time.sleep(0.02)
    assert events == []
    release.set()
    for thread in (*readers, writer):
        thread.join(5)

    assert events == ["read", "read", "read", "written"]


def test_a_waiting_writer_goes_before_new_readers():
    lock, events, has_read = SharedLock(), [], threading.Event()

    def write():
        with lock.writing():
            events.append("written")

    def read():
        with lock.reading():
            events.append("read")
            has_read.set()

    with lock.reading():
        writer = started(write)
        time.sleep(0.02)
        reader = started(read)
        time.sleep(0.02)
        assert events == []
    writer.join(5)
    reader.join(5)

    assert events == ["written", "read"]


@pytest.mark.parametrize("role", ["reading", "writing"])
def test_an_error_gives_the_lock_back(role):
    lock = SharedLock()

    with pytest.raises(KeyError), getattr(lock, role)():
        raise KeyError
    with lock.writing():
        pass
    with lock.reading():
        pass


def test_writers_never_overlap_with_anyone():
    lock, state, errors = SharedLock(), {"writers": 0, "readers": 0}, []

    def work(number):
        for turn in range(200):
            if (turn + number) % 4:
                with lock.reading():
                    errors.extend([1] * state["writers"])
            else:
                with lock.writing():
                    state["writers"] += 1
                    errors.extend([1] * (state["writers"] != 1))
                    state["writers"] -= 1

    threads = [started(lambda number=number: work(number)) for number in range(6)]
    for thread in threads:
        thread.join(20)

    assert not errors
