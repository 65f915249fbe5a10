"""What exposure-click must put out, computed by brute force from its input. Shares no code with the engine."""
import collections
import decimal
import json
import random

LOWER, UPPER = -10_000, 2_000


def ad_logs(seed, clicks, disorder=4_000, partitions=3):
    """Exposures (JSON) and clicks (tab-separated) with every case in them, as lists of (key, value, partition).

    About 60 % of the clicks have an exposure in the interval, some exactly on its ends, some two; about 20 % have one outside
    of it (the store knows it), the others none. Disorder stays inside `disorder` ms within each partition."""
    rng = random.Random(seed)
    base = 1_700_000_000_000
    exposures, lines = [], []
    for i in range(clicks):
        uid, mid = f"u{rng.randrange(clicks // 3)}", f"m{rng.randrange(40)}-{i}"
        ts = base + i * 50
        case = rng.random()
        if case < 0.6:
            offset = rng.choice([LOWER, UPPER, 0, rng.randint(LOWER, UPPER)])
            exposures.append((uid, mid, ts + offset, rng.randrange(100)))
            if case < 0.05:
                exposures.append((uid, mid, ts + rng.randint(LOWER, UPPER), rng.randrange(100)))
        elif case < 0.8:
            exposures.append((uid, mid, ts + rng.choice([LOWER - 1, UPPER + 1, LOWER - 5_000, UPPER + 30_000]), rng.randrange(100)))
        price = decimal.Decimal(rng.randrange(100_000)) / 100
        lines.append((uid, mid, rng.choice(["IOS", "Android", "web"]), ts, price))

    def place(uid):
        return sum(uid.encode()) % partitions

    def arrival(ts):
        return ts + rng.randint(0, disorder)

    out_e = sorted(((arrival(e[2]), e) for e in exposures), key=lambda x: x[0])
    out_c = sorted(((arrival(c[3]), c) for c in lines), key=lambda x: x[0])
    good_e = [(e[0], json.dumps({"uid": e[0], "mid": e[1], "ts": e[2], "pos": e[3], "extra": {"a": [1, "\u4e2d\u6587"]}}, ensure_ascii=rng.random() < 0.5), place(e[0]))
              for _, e in out_e]
    good_c = [(c[0], f"{c[0]}\t{c[1]}\t{c[2]}\t{c[3]}\t{c[4]}", place(c[0])) for _, c in out_c]
    return [e for _, e in out_e], [c for _, c in out_c], good_e, good_c


def with_bad(rows, bad, seed):
    """The rows with bad ones strewn in, in the partitions of their neighbours."""
    rng = random.Random(seed)
    out = []
    for row in rows:
        out.append(row)
        if rng.random() < 0.03:
            out.append((row[0], rng.choice(bad), row[2]))
    return out


def cents(price):
    return int((price * 100 + decimal.Decimal("0.5")).to_integral_value(decimal.ROUND_FLOOR))


def joined(exposures, clicks):
    """Counters of (uid, mid, ts, plat, cents, pos, imp_ts), and the clicks that nothing matches.

    Pairs inside the interval; a click without one takes what the store holds: the exposure of its key that was written last."""
    by_key = collections.defaultdict(list)
    for uid, mid, ts, pos in exposures:
        by_key[uid, mid].append((ts, pos))
    rows, unmatched, fallback = collections.Counter(), collections.Counter(), 0
    for uid, mid, os, ts, price in clicks:
        left = (uid, mid, ts, os.lower(), cents(price))
        pairs = [(pos, ets) for ets, pos in by_key[uid, mid] if ts + LOWER <= ets <= ts + UPPER]
        if pairs:
            for pair in pairs:
                rows[left + pair] += 1
        elif by_key[uid, mid]:
            ets, pos = by_key[uid, mid][-1]
            rows[left + (pos, ets)] += 1
            fallback += 1
        else:
            unmatched[left] += 1
    return rows, unmatched, fallback


def row_of(text):
    r = json.loads(text)
    return (r["uid"], r["mid"], r["ts"], r["plat"], r["cents"], r["pos"], r["imp_ts"])
