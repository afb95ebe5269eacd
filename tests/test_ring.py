"""The camera's ring: whatever the two sides do and wherever they die, every exposure is delivered whole or counted."""

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge.camera.ring
from edge.camera.ring import Ring, RingReader, RingWriter
from edge.camera.shot import Shot
from edge.core.errors import CameraError
from edge.core.types import Pixels

HEIGHT, WIDTH, SLOTS = 16, 33, 8
SPAWN = multiprocessing.get_context("spawn")


def paint(out: Pixels, number: int) -> None:
    """Pixels that only exposure `number` has, in every row."""
    out[:] = number & 0xFFFF
    out[:, 0] = number >> 16


def is_painted(pixels: Pixels, number: int) -> bool:
    expected = np.empty_like(pixels)
    paint(expected, number)
    return bool((pixels == expected).all())


def write(writer: RingWriter, number: int) -> None:
    pixels = writer.slot()
    paint(pixels, number)
    writer.commit(Shot(pixels, number, 10 * number, -number, 0.5 * number, 6.0, number % 4, number % 7, number % 3 > 0))


def new_ring(slots: int = SLOTS) -> Ring:
    return Ring(HEIGHT, WIDTH, np.uint16, slots)


def read_all(reader: RingReader) -> list[int]:
    """Ids of all there is to read, each exposure compared with what was written."""
    out, ids = np.empty((HEIGHT, WIDTH), np.uint16), []
    while (shot := reader.next_into(out)) is not None:
        number = shot.frame_id
        assert is_painted(shot.pixels, number)
        assert (shot.exposed_ns, shot.encoder_count, shot.exposure_us) == (10 * number, -number, 0.5 * number)
        assert (shot.active_set, shot.line_status, shot.complete) == (number % 4, number % 7, number % 3 > 0)
        ids.append(number)
    return ids


@given(st.lists(st.integers(0, 3 * SLOTS)))
def test_what_is_not_overwritten_is_delivered_in_order_and_the_rest_counted(bursts: list[int]) -> None:
    with new_ring() as ring:
        writer, reader = RingWriter(ring), RingReader(ring)
        written = 0
        for burst in bursts:
            for _ in range(burst):
                write(writer, written)
                written += 1
            writer.slot()[: HEIGHT // 2] = 0xDEAD
            lost_before = reader.lost
            ids = read_all(reader)
            assert ids == list(range(written - len(ids), written))
            assert len(ids) + reader.lost - lost_before == burst
            assert reader.lost == lost_before or burst > SLOTS - 2
        assert ring.status().written == written


def test_an_exposure_overwritten_while_it_is_copied_is_lost_not_torn(monkeypatch: pytest.MonkeyPatch) -> None:
    with new_ring() as ring:
        writer, reader = RingWriter(ring), RingReader(ring)
        for number in range(3):
            write(writer, number)
        copyto = np.copyto
        numbers = iter(range(3, 3 + SLOTS))

        def slow_copy(out: Pixels, pixels: Pixels) -> None:
            copyto(out[:5], pixels[:5])
            for number in numbers:
                write(writer, number)
            copyto(out[5:], pixels[5:])

        monkeypatch.setattr(edge.camera.ring.np, "copyto", slow_copy)
        ids = read_all(reader)
        assert ids == list(range(11 - len(ids), 11))
        assert reader.lost == 11 - len(ids) > 0


def test_a_slot_under_way_is_not_read_though_nothing_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    with new_ring() as ring:
        writer, reader = RingWriter(ring), RingReader(ring)
        for number in range(SLOTS):
            write(writer, number)
        copyto = np.copyto
        begun: list[Pixels] = []

        def slow_copy(out: Pixels, pixels: Pixels) -> None:
            if not begun:
                for number in (8, 9):
                    write(writer, number)
                begun.append(writer.slot())
                begun[0][:3] = 0
            copyto(out, pixels)

        monkeypatch.setattr(edge.camera.ring.np, "copyto", slow_copy)
        assert read_all(reader)[-1] == 9
        assert reader.lost > 0


def write_for(ring: Ring, seconds: float, link: Connection) -> None:
    writer = RingWriter(ring)
    link.send("writing")
    end_s, number = time.monotonic() + seconds, 0
    while time.monotonic() < end_s:
        write(writer, number)
        number += 1
    link.send(number)


def test_a_writer_at_full_speed_beside_a_slow_reader() -> None:
    """Another process writes as fast as it can; the reader sleeps now and then and is overrun again and again."""
    with new_ring(16) as ring:
        mine, theirs = SPAWN.Pipe(duplex=False)
        reader = RingReader(ring)
        process = SPAWN.Process(target=write_for, args=(ring, 1.0, theirs), daemon=True)
        process.start()
        theirs.close()
        assert mine.recv() == "writing"
        out, ids = np.empty((HEIGHT, WIDTH), np.uint16), [-1]
        while not mine.poll() or reader.wait(0):
            shot = reader.next_into(out) if reader.wait(0.1) else None
            if shot is None:
                continue
            assert is_painted(shot.pixels, shot.frame_id)
            assert shot.frame_id > ids[-1]
            ids.append(shot.frame_id)
            if shot.frame_id % 50 == 0:
                time.sleep(0.002)
        assert len(ids) - 1 + reader.lost == mine.recv()
        assert reader.lost > 0
        assert len(ids) > 100
        process.join()


def die_half_way(ring: Ring, after: int) -> None:
    writer = RingWriter(ring)
    for number in range(after):
        write(writer, number)
    writer.slot()[: HEIGHT // 2] = 0xDEAD
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("after", [3, SLOTS + 3])
def test_a_writer_killed_in_the_middle_of_an_exposure_leaves_none_torn_and_another_goes_on(after: int) -> None:
    with new_ring() as ring:
        reader = RingReader(ring)
        process = SPAWN.Process(target=die_half_way, args=(ring, after), daemon=True)
        process.start()
        process.join()
        before = read_all(reader)
        assert before == list(range(after - len(before), after))
        assert len(before) + reader.lost == after
        first_run = reader.run
        writer = RingWriter(ring)
        for number in range(after, after + 5):
            write(writer, number)
        assert read_all(reader) == list(range(after, after + 5))
        assert reader.run == first_run + 1
        assert ring.status().written == after + 5


def test_a_new_reader_starts_with_what_is_written_next() -> None:
    with new_ring() as ring:
        writer = RingWriter(ring)
        write(writer, 0)
        reader = RingReader(ring)
        write(writer, 1)
        assert read_all(reader) == [1]
        assert reader.lost == 0


def test_a_ring_too_large_for_the_memory_is_refused_in_one_line() -> None:
    with pytest.raises(CameraError, match=r"camera\.ring_mb: 4096 exposures take .* MiB free") as refused:
        Ring(4096, 16384, np.uint16, 4096)
    assert "\n" not in str(refused.value)
