#!/usr/bin/env python3
"""Makes the trigram table of the DGA detector, and measures the detectors of DNS Firewall on public data sets.

    apt-get install wamerican; pip install publicsuffixlist
    tests/bench/detectors.py table                      writes models/firewall/trigrams.bin
    tests/bench/detectors.py dga FILE.csv               labelled names: legit or dga, family, name
    tests/bench/detectors.py tunnels DIRECTORY          captures: *.pcap below normal/, all other ones are tunnels

The data sets of the published figures:

- dga: `dga_domains_sample.csv` of https://github.com/chrmor/DGA_domains_dataset (Cucchiarelli and others, 2021)
- tunnels: https://github.com/ggyggy666/DNS-Tunnel-Datasets (GraphTunnel, IEEE TIFS 2024), the files up to 4 MiB

The rules are those of src/snapshot/firewall and src/detect. The script counts names exactly; zonal estimates them.

Each data set has two halves. The script chooses the numbers on the first half, by the rules in `choose_limit`, `choose_names` and
`choose_octets`, and stops if zonal has other numbers. It reports the second half only:

- dga: every second family, in the order of their names; and the sites whose SHA-256 begins with an even octet
- tunnels: the tools dns2tcp and dnscat2, and the first half of the captures without a tunnel
"""

import collections
import csv
import hashlib
import math
import pathlib
import random
import re
import struct
import subprocess
import sys

TABLE = pathlib.Path(__file__).resolve().parents[2] / "models/firewall/trigrams.bin"
WORDS = "/usr/share/dict/american-english"
SYMBOLS, DIGIT, OTHER = 28, 26, 27
MIN_OCTETS, HALF_BITS_PER_CHARACTER, THRESHOLD = 7, 9, 39
NAMES = {"LOW": 10, "MEDIUM": 20, "HIGH": 40}
OCTETS = {"LOW": 10_000, "MEDIUM": 100_000, "HIGH": 500_000}
HOUR = 3600
# The tunnels of the first half.
FIRST_TOOLS = ("dns2tcp", "dnscat2")


def symbols(label):
    """The symbols of a label, with those of its ends."""
    inner = [ord(c) - 97 if "a" <= c <= "z" else DIGIT if c.isdigit() else OTHER for c in label.lower()]
    return [OTHER, OTHER, *inner, OTHER]


def words():
    """The words of Debian's wamerican and the names of Debian's packages."""
    with open(WORDS, encoding="utf-8") as file:
        plain = {line.strip().lower() for line in file}
    packages = subprocess.run(["apt-cache", "pkgnames"], check=True, capture_output=True, text=True).stdout.split()
    yield from sorted(word for word in plain if re.fullmatch("[a-z]+", word))
    yield from sorted({name for name in packages if re.fullmatch("[a-z0-9-]+", name)})


def table():
    """Writes the information of each trigram: trigrams are smoothed by pairs, and pairs by single symbols."""
    counts = [collections.Counter() for _ in range(3)]
    for word in words():
        found = symbols(word)
        for at in range(2, len(found)):
            for length in range(3):
                counts[length][tuple(found[at - length : at + 1])] += 1
    total = sum(counts[0].values())
    before = [collections.Counter(), collections.Counter()]
    for length in (1, 2):
        for key, count in counts[length].items():
            before[length - 1][key[:-1]] += count
    bits = []
    for index in range(SYMBOLS**3):
        a, b, c = index // SYMBOLS**2, index // SYMBOLS % SYMBOLS, index % SYMBOLS
        single = (counts[0][c,] + 1) / (total + SYMBOLS)
        pair = (counts[1][b, c] + 5 * single) / (before[0][b,] + 5)
        triple = (counts[2][a, b, c] + 5 * pair) / (before[1][a, b] + 5)
        bits.append(min(15, max(0, round(-math.log2(triple)))))
    TABLE.write_bytes(bytes(high << 4 | low for high, low in zip(bits[::2], bits[1::2], strict=True)))
    print(f"{TABLE}: {TABLE.stat().st_size} octets")


def load():
    """The table as a list."""
    return [half for octet in TABLE.read_bytes() for half in (octet >> 4, octet & 15)]


def information_of(bits, label):
    """The information of a label in half bits, and its number of symbols. None if the label is not judged."""
    if len(label) < MIN_OCTETS or label.startswith("xn--"):
        return None
    found = symbols(label)
    indexes = ((found[at - 2] * SYMBOLS + found[at - 1]) * SYMBOLS + found[at] for at in range(2, len(found)))
    return sum(2 * bits[index] for index in indexes), len(found) - 2


def looks_generated(judged, per_character=HALF_BITS_PER_CHARACTER, threshold=THRESHOLD):
    """Whether a label with this information has more than a name that a person chose, by the threshold."""
    return judged is not None and judged[0] - per_character * judged[1] >= threshold


def share(labels, *limits):
    """The share of labels that look generated."""
    return sum(looks_generated(label, *limits) for label in labels) / len(labels)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def choose_limit(families, sites):
    """The limit that finds the most names of the families, on average, of those that find at most 1 % of the sites."""
    limits = []
    for per_character in range(6, 13):
        fitting = (limit for limit in range(1, 200) if share(sites, per_character, limit) <= 0.01)
        threshold = next(fitting)
        limits.append((mean(share(labels, per_character, threshold) for labels in families), per_character, threshold))
    return max(limits)[1:]


def choose_names(sites):
    """The numbers of names for LOW, MEDIUM and HIGH. MEDIUM is the smallest multiple of ten that a client which asks for 1,000 sites
    reaches with a probability below 1 %. LOW is half of it, and HIGH twice."""
    rate = share(sites)
    binomial = [math.comb(1000, count) * rate**count * (1 - rate) ** (1000 - count) for count in range(200)]
    medium = next(least for least in range(10, 200, 10) if 1 - sum(binomial[:least]) < 0.01)
    return {"LOW": medium // 2, "MEDIUM": medium, "HIGH": 2 * medium}


def check(what, chosen, ours):
    """Stops if zonal has other numbers than those that were chosen."""
    if chosen != ours:
        sys.exit(f"{what}: the first half leads to {chosen}, and zonal has {ours}")
    print(f"{what}, chosen on the first half: {chosen}")


def dga(path):
    """Chooses the numbers of the DGA detector on one half, and measures on the other how many names of each family look generated, and
    what that means for a client."""
    from publicsuffixlist import PublicSuffixList

    every, public = PublicSuffixList(), PublicSuffixList(only_icann=True)
    bits, families, sites = load(), collections.defaultdict(list), ([], [])
    with open(path, encoding="utf-8") as file:
        for label, family, name in csv.reader(file):
            name = name.lower().rstrip(".")
            registered = every.privatesuffix(name)
            is_public = registered and every.publicsuffix(name) == public.publicsuffix(name)
            judged = information_of(bits, registered.split(".")[0]) if is_public else None
            half = sites[hashlib.sha256(name.encode()).digest()[0] % 2] if label == "legit" else families[family]
            half.append(judged)
    names = sorted(families)
    first = [families[family] for family in names[::2]]
    check("half bits per character, and limit", choose_limit(first, sites[0]), (HALF_BITS_PER_CHARACTER, THRESHOLD))
    check("names in an hour", choose_names(sites[0]), NAMES)
    families = {family: [looks_generated(label) for label in families[family]] for family in names[1::2]}
    families["legit"] = [looks_generated(label) for label in sites[1]]
    print("\n| family | names | look generated | names a client asks for until LOW / MEDIUM / HIGH |")
    print("| --- | --- | --- | --- |")
    for family, found in sorted(families.items(), key=lambda item: -sum(item[1]) / len(item[1])):
        part = sum(found) / len(found)
        until = " / ".join(f"{count / part:.0f}" for count in NAMES.values()) if part else "never"
        print(f"| {family} | {len(found)} | {100 * part:.1f} % | {until} |")
    dice = random.Random(1)
    print("\n| names that a client asks for in an hour | found: share of the families | wrong: share of the legit clients |")
    print("| --- | --- | --- |")
    for asked in (50, 100, 200, 500, 1000):
        shares = {family: [sum(dice.choices(found, k=asked)) for _ in range(200)] for family, found in families.items()}
        of = lambda wanted, least: [sum(n >= least for n in hits) / 200 for family, hits in shares.items() if wanted(family)]
        right = [of(lambda family: family != "legit", least) for least in NAMES.values()]
        wrong = [of(lambda family: family == "legit", least) for least in NAMES.values()]
        texts = [" / ".join(f"{mean(level):.2f}" for level in both) for both in (right, wrong)]
        print(f"| {asked} | {texts[0]} | {texts[1]} |")
    legit = families.pop("legit")
    true, false = sum(map(sum, families.values())), sum(legit)
    count = sum(map(len, families.values()))
    print(f"\nof single names: {count} of {len(families)} families, {len(legit)} of sites; recall {true / count:.3f},")
    print(f"false positives {false / len(legit):.4f} of the sites, precision {true / (true + false):.3f}")


def packets(data):
    """The time in seconds, the link type and the octets of each packet of a pcap or pcapng file."""
    if data[:4] != b"\x0a\x0d\x0d\x0a":
        order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
        link, at = struct.unpack_from(order + "I", data, 20)[0], 24
        while at + 16 <= len(data):
            seconds, _, length, _ = struct.unpack_from(order + "IIII", data, at)
            yield seconds, link, data[at + 16 : at + 16 + length]
            at += 16 + length
        return
    order = "<" if data[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
    links, at = [], 0
    while at + 12 <= len(data):
        kind, length = struct.unpack_from(order + "II", data, at)
        if kind == 1:
            links.append(struct.unpack_from(order + "H", data, at + 8)[0])
        elif kind == 6:
            interface, high, low, size = struct.unpack_from(order + "IIII", data, at + 8)
            # Wireshark writes microseconds.
            yield (high << 32 | low) // 1_000_000, links[interface], data[at + 28 : at + 28 + size]
        at += max(12, length)


def captured(path):
    """The time, and the name in lower case, of each query in a capture."""
    for seconds, link, packet in packets(path.read_bytes()):
        packet = packet[{1: 14, 113: 16, 276: 20}.get(link, 0) :]
        if len(packet) < 40:
            continue
        if packet[0] >> 4 == 4 and packet[9] == 17:
            packet = packet[(packet[0] & 15) * 4 :]
        elif packet[0] >> 4 == 6 and packet[6] == 17:
            packet = packet[40:]
        else:
            continue
        if struct.unpack_from(">H", packet, 2)[0] != 53 or len(packet) < 8 + 17 or packet[10] & 0x80:
            continue
        labels, here = [], 20
        while here < len(packet) and 0 < packet[here] < 64:
            labels.append(packet[here + 1 : here + 1 + packet[here]].lower())
            here += 1 + packet[here]
        yield seconds, labels


def information(labels):
    """The octets of information in the labels in front of a registered domain."""
    leading = lambda count, fits: len(labels) >= count and all(map(fits, labels[:count]))
    octets, rest = 0, labels
    if leading(4, lambda label: label.isdigit() and len(label) <= 3 and int(label) < 256):
        octets, rest = 4, labels[4:]
    elif leading(32, lambda label: re.fullmatch(b"[0-9a-f]", label)):
        octets, rest = 16, labels[32:]
    return octets + sum(map(len, dict.fromkeys(rest)))


def largest_of(paths):
    """The largest number of octets of each registered domain in an hour, in captures that follow each other, and the number of queries."""
    from publicsuffixlist import PublicSuffixList

    suffixes, seen, hours, queries = PublicSuffixList(), set(), collections.Counter(), 0
    for path in paths:
        for seconds, labels in captured(path):
            queries += 1
            try:
                name = b".".join(labels).decode("ascii")
            except UnicodeDecodeError:
                name = b".".join(labels).decode("latin-1")
            registered = suffixes.privatesuffix(name)
            if not registered or name in seen:
                continue
            seen.add(name)
            below = labels[: len(labels) - registered.count(".") - 1]
            if below:
                hours[registered, seconds // HOUR] += information(below)
    largest = {}
    for (domain, _), octets in hours.items():
        largest[domain] = max(largest.get(domain, 0), octets)
    return largest, queries


def choose_octets(normal, of_tunnels):
    """The octets for LOW, MEDIUM and HIGH. LOW is the smallest power of ten that is at least ten times the busiest domain without a tunnel.
    MEDIUM is ten times LOW. HIGH is the largest of 1, 2 or 5 times a power of ten that at least half of the tunnels reach."""
    low = 10 ** math.ceil(math.log10(10 * max(normal.values())))
    steps = (step * 10**power for power in range(12) for step in (1, 2, 5))
    high = max(step for step in steps if 2 * sum(octets >= step for octets in of_tunnels) >= len(of_tunnels))
    return {"LOW": low, "MEDIUM": 10 * low, "HIGH": high}


def tunnels(directory):
    """Chooses the numbers of the tunnel detector on some captures, and measures them on the others."""
    paths = sorted(pathlib.Path(directory).rglob("*.pcap"))
    normal = [path for path in paths if "normal" in path.parts]
    halves = normal[: len(normal) // 2], normal[len(normal) // 2 :]
    normal = [largest_of(half) for half in halves]
    # Each capture of a tunnel has one domain for the tunnel.
    of_tunnels = {path.name: max(largest_of([path])[0].values()) for path in paths if "normal" not in path.parts}
    first = [octets for name, octets in of_tunnels.items() if name.startswith(FIRST_TOOLS)]
    check("octets in an hour", choose_octets(normal[0][0], first), OCTETS)
    largest, queries = normal[1]
    print(f"second half without a tunnel: {queries} queries, {len(largest)} domains with names below them; the largest:")
    for domain, octets in sorted(largest.items(), key=lambda item: -item[1])[:5]:
        print(f"  {octets:>10} octets in an hour  {domain}")
    print("second half of the tunnels:")
    second = {name: octets for name, octets in of_tunnels.items() if not name.startswith(FIRST_TOOLS)}
    for name, octets in second.items():
        print(f"  {octets:>10} octets in an hour  {name}")
    for level, threshold in OCTETS.items():
        found = sum(octets >= threshold for octets in second.values())
        wrong = sum(octets >= threshold for octets in largest.values())
        print(f"{level}: tunnels found {found} of {len(second)}, false findings {wrong} of {len(largest)}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["table"]:
            table()
        case ["dga", path]:
            dga(path)
        case ["tunnels", directory]:
            tunnels(directory)
        case _:
            sys.exit(__doc__)
