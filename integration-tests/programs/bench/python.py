"""Ten small pure-Python programs in the manner of pyperformance: `python.py NAME` prints the nanoseconds of one run. A checksum goes to stderr, so that both sides can be seen to do the same."""
import json
import re
import sys
import time


def calls():
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)
    return fib(29)


def nbody():
    bodies = [[i * 1.7 % 3.1, i * 2.3 % 1.9, i * 0.7 % 2.3, 0.01 * i, -0.02 * i, 0.005 * i, 1.0 / (i + 1)] for i in range(5)]
    for _ in range(15000):
        for i, a in enumerate(bodies):
            for b in bodies[i + 1:]:
                dx, dy, dz = a[0] - b[0], a[1] - b[1], a[2] - b[2]
                m = 0.001 / ((dx * dx + dy * dy + dz * dz + 0.1) ** 1.5)
                a[3] -= dx * b[6] * m; a[4] -= dy * b[6] * m; a[5] -= dz * b[6] * m
                b[3] += dx * a[6] * m; b[4] += dy * a[6] * m; b[5] += dz * a[6] * m
        for a in bodies:
            a[0] += 0.001 * a[3]; a[1] += 0.001 * a[4]; a[2] += 0.001 * a[5]
    return sum(sum(b) for b in bodies)


def fannkuch():
    n, most = 8, 0
    perm, count, r = list(range(n)), [0] * n, n
    start = list(range(n))
    while True:
        while r != 1:
            count[r - 1] = r
            r -= 1
        perm, flips = start[:], 0
        while perm[0]:
            k = perm[0]
            perm[:k + 1] = perm[k::-1]
            flips += 1
        most = max(most, flips)
        while True:
            if r == n:
                return most
            start.insert(r, start.pop(0))
            count[r] -= 1
            if count[r] > 0:
                break
            r += 1


def queens():
    def place(n, row, left, right):
        if row == (1 << n) - 1:
            return 1
        found, free = 0, ~(row | left | right) & ((1 << n) - 1)
        while free:
            bit = free & -free
            free ^= bit
            found += place(n, row | bit, (left | bit) << 1, (right | bit) >> 1)
        return found
    return place(11, 0, 0, 0)


def words():
    text = " ".join(f"w{i * 7919 % 1009}" for i in range(200000))
    counts = {}
    for w in text.split():
        counts[w] = counts.get(w, 0) + 1
    return sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:3]


def regex():
    text = "".join(f"user{i}@host{i % 97}.example, {i * 31 % 1000:03d}-{i:05d}; " for i in range(30000))
    return len(re.findall(r"(\w+)@(\w+)\.example", text)) + len(re.sub(r"\d{3}-(\d+)", r"<\1>", text))


def documents():
    data = [{"id": i, "name": f"n{i}", "tags": ["a", "b", str(i)], "value": i * 0.37, "more": None} for i in range(4000)]
    for _ in range(2):
        text = json.dumps(data, sort_keys=True, indent=1)
        data = json.loads(text)
    return len(text)


def digits():
    q, r, t, k, n, l, out = 1, 0, 1, 1, 3, 3, []
    while len(out) < 1800:
        if 4 * q + r - t < n * t:
            out.append(n)
            q, r, n = 10 * q, 10 * (r - n * t), (10 * (3 * q + r)) // t - 10 * n
        else:
            q, r, t, k, n, l = q * k, (2 * q + r) * l, t * l, k + 1, (q * (7 * k + 2) + r * l) // (t * l), l + 2
    return sum(out)


def objects():
    class Node:
        __slots__ = ("key", "left", "right")

        def __init__(self, key):
            self.key, self.left, self.right = key, None, None

        def insert(self, key):
            side = "left" if key < self.key else "right"
            child = getattr(self, side)
            if child is None:
                setattr(self, side, Node(key))
            else:
                child.insert(key)

        def walk(self):
            if self.left:
                yield from self.left.walk()
            yield self.key
            if self.right:
                yield from self.right.walk()
    root, x = Node(50000), 1
    for _ in range(30000):
        x = x * 16807 % 2147483647
        root.insert(x % 100000)
    return sum(i * k for i, k in enumerate(root.walk()))


def sorting():
    x, values = 1, []
    for _ in range(60000):
        x = x * 16807 % 2147483647
        values.append((x % 1000, str(x), x * 0.5))
    values.sort(key=lambda v: (v[0], v[2]))
    return hash(tuple(v[0] for v in values[::1000]))


PROGRAMS = (calls, nbody, fannkuch, queens, words, regex, documents, digits, objects, sorting)
program = {p.__name__: p for p in PROGRAMS}[sys.argv[1]]
program()
start = time.perf_counter_ns()
result = program()
print(time.perf_counter_ns() - start)
print(result, file=sys.stderr)
