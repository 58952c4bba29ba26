"""A load generator for a service on loopback: `python -m benchmarks._load`, a process of its own.

Each connection asks, waits for the answer, and asks again, for a given time: a connection is one caller.
Reads one JSON object on standard input: port, path, bodies, connections, seconds. Writes one: statuses,
latencies in seconds of the answers with 200, and the seconds it took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any


async def _caller(
    given: dict[str, Any], number: int, end: float, statuses: Any, latencies: list[float]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", given["port"])
    bodies, position = given["bodies"], number
    while time.perf_counter() < end:
        body = bodies[position % len(bodies)].encode()
        position += given["connections"]
        head = (
            f"POST {given['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        start = time.perf_counter()
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
        lines = answer.decode("latin-1").lower().split("\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith("content-length:"))
        await reader.readexactly(length)
        statuses[status] += 1
        if status == 200:
            latencies.append(time.perf_counter() - start)
    writer.close()


async def _load(given: dict[str, Any]) -> dict[str, Any]:
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    start = time.perf_counter()
    end = start + given["seconds"]
    await asyncio.gather(
        *(_caller(given, number, end, statuses, latencies) for number in range(given["connections"]))
    )
    return {"statuses": dict(statuses), "latencies": latencies, "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    json.dump(asyncio.run(_load(json.load(sys.stdin))), sys.stdout)
