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
"""

import collections
import csv
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
MIN_OCTETS, HALF_BITS_PER_CHARACTER, THRESHOLD = 7, 9, 41
NAMES = {"LOW": 10, "MEDIUM": 20, "HIGH": 40}
OCTETS = {"LOW": 10_000, "MEDIUM": 100_000, "HIGH": 500_000}
HOUR = 3600


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


def excess(bits, label):
    """The information of a label beyond that of a name which a person chose, in half bits."""
    found = symbols(label)
    indexes = (
        (found[at - 2] * SYMBOLS + found[at - 1]) * SYMBOLS + found[at] for at in range(2, len(found))
    )
    return sum(2 * bits[index] - HALF_BITS_PER_CHARACTER for index in indexes)


def looks_generated(bits, label):
    return len(label) >= MIN_OCTETS and not label.startswith("xn--") and excess(bits, label) >= THRESHOLD


def dga(path):
    """Measures how many names of each family look generated, and what that means for a client."""
    from publicsuffixlist import PublicSuffixList

    every, public = PublicSuffixList(), PublicSuffixList(only_icann=True)
    bits, families = load(), collections.defaultdict(list)
    with open(path, encoding="utf-8") as file:
        for label, family, name in csv.reader(file):
            name = name.lower().rstrip(".")
            registered = every.privatesuffix(name)
            is_public = registered and every.publicsuffix(name) == public.publicsuffix(name)
            found = is_public and looks_generated(bits, registered.split(".")[0])
            families["legit" if label == "legit" else family].append(bool(found))
    print("| family | names | look generated | names a client asks for until LOW / MEDIUM / HIGH |")
    print("| --- | --- | --- | --- |")
    for family, found in sorted(families.items(), key=lambda item: -sum(item[1]) / len(item[1])):
        share = sum(found) / len(found)
        until = " / ".join(f"{count / share:.0f}" for count in NAMES.values()) if share else "never"
        print(f"| {family} | {len(found)} | {100 * share:.1f} % | {until} |")
    dice = random.Random(1)
    print("\n| names that a client asks for in an hour | found: share of the families | wrong: share of the legit clients |")
    print("| --- | --- | --- |")
    for asked in (50, 100, 200, 500, 1000):
        shares = {family: [sum(dice.choices(found, k=asked)) for _ in range(200)] for family, found in families.items()}
        of = lambda wanted, least: [sum(n >= least for n in hits) / 200 for family, hits in shares.items() if wanted(family)]
        right = [of(lambda family: family != "legit", least) for least in NAMES.values()]
        wrong = [of(lambda family: family == "legit", least) for least in NAMES.values()]
        texts = [" / ".join(f"{sum(level) / len(level):.2f}" for level in both) for both in (right, wrong)]
        print(f"| {asked} | {texts[0]} | {texts[1]} |")
    legit = families.pop("legit")
    true, false = sum(map(sum, families.values())), sum(legit)
    count = sum(map(len, families.values()))
    print(f"\nof single names: recall {true / count:.3f}, false positives {false / len(legit):.4f} of the legit ones,")
    print(f"precision {true / (true + false):.3f} (as many legit names as generated ones)")


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


def tunnels(directory):
    """Measures the largest number of octets of each registered domain in an hour."""
    from publicsuffixlist import PublicSuffixList

    suffixes, every = PublicSuffixList(), {"normal": {}, "tunnel": {}}
    counts = collections.Counter()
    for kind, largest in every.items():
        # The captures of a tool, and the normal ones, follow each other.
        groups = collections.defaultdict(list)
        for path in sorted(pathlib.Path(directory).rglob("*.pcap")):
            if ("normal" in path.parts) == (kind == "normal"):
                groups["normal" if kind == "normal" else path.name].append(path)
        for group, paths in groups.items():
            seen, hours = set(), collections.Counter()
            for path in paths:
                for seconds, labels in captured(path):
                    counts[kind] += 1
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
            for (domain, _), octets in hours.items():
                key = (group, domain)
                largest[key] = max(largest.get(key, 0), octets)
    for kind, largest in every.items():
        print(f"{kind}: {counts[kind]} queries, {len(largest)} domains with names below them; the largest:")
        for (group, domain), octets in sorted(largest.items(), key=lambda item: -item[1])[:12]:
            print(f"  {octets:>10} octets in an hour  {domain}  ({group})")
    main = {group: max((o for (g, _), o in every["tunnel"].items() if g == group), default=0) for group, _ in every["tunnel"]}
    for level, threshold in OCTETS.items():
        found = sum(octets >= threshold for octets in main.values())
        wrong = sum(octets >= threshold for octets in every["normal"].values())
        precision = found / (found + wrong) if found + wrong else 1
        print(f"{level}: recall {found}/{len(main)}, false positives {wrong} of {len(every['normal'])}, precision {precision:.3f}")


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
