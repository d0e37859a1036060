#!/usr/bin/env python3
"""The tables of README.md, from what `lab/run` has written.

    lab/table.py matrix FULL.json
    lab/table.py compared COMPARED.json
"""

import json
import statistics
import sys
from collections import defaultdict

TRANSPORTS = ("tcp", "quic", "both")
CLIENTS = ("ours", "libp2p-autonat", "go-libp2p")


def median(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def seconds(value, silence=False):
    return "–" if value is None else f"{value:.1f}{'†' if silence else ''}"


def count(runs, sign):
    """Runs with a false positive (`+`), a false negative (`-`), or filtered and unreachable mixed up (`~`), even for a moment."""
    return sum(any(wrong.startswith(sign) for wrong in run["wrong"]) for run in runs)


def servers(cell):
    kinds = cell["servers"]
    special = ", ".join(f"{number} {kind}" for kind, number in kinds.items() if kind != "plain")
    total = sum(kinds.values())
    return f"{total} ({special})" if special else str(total)


def network(cell):
    words = cell["cell"].split()
    answer = next((word for word in words if word in ("drops", "rejects")), "")
    name = f"{cell['name']}, {cell['change']}" if cell["change"] else cell["name"]
    return name, answer


def matrix(cells):
    """One row a network, whatever the servers; the cells of each transport together."""
    rows = defaultdict(list)
    for cell in cells:
        rows[network(cell)].append(cell)
    print("| network | unwanted packets | cells | runs | right | false + | false − | mixed up | none | first, TCP | QUIC | both | noticed |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for (name, answer), group in rows.items():
        runs = [run for cell in group for run in cell["runs"]]
        times = []
        for transport in TRANSPORTS:
            of = [cell for cell in group if cell["transport"] == transport]
            silence = any(cell["silence"] for cell in of)
            times.append(seconds(median([run.get("first") for cell in of for run in cell["runs"]]), silence))
        noticed = seconds(median([run.get("noticed") for run in runs]))
        print(
            f"| {name} | {answer} | {len(group)} | {len(runs)} | {sum(run['right'] for run in runs)} | {count(runs, '+')} "
            f"| {count(runs, '-')} | {count(runs, '~')} | {silent(runs)} | {' | '.join(times)} | {noticed} |"
        )
    runs = [run for cell in cells for run in cell["runs"]]
    print(f"\n{len(cells)} cells, {len(runs)} runs, {sum(run['right'] for run in runs)} right.")
    for silence in (False, True):
        for transport in TRANSPORTS:
            of = [c for c in cells if c["silence"] == silence and c["transport"] == transport]
            first = median([run.get("first") for cell in of for run in cell["runs"]])
            print(f"Median to the first right verdict, {'silence' if silence else 'answers'}, {transport}: {seconds(first)} s")
    for change in dict.fromkeys(cell["change"] for cell in cells if cell["change"]):
        noticed = [run.get("noticed") for cell in cells if cell["change"] == change for run in cell["runs"]]
        known = sorted(value for value in noticed if value is not None)
        if known:
            print(f"{change}: median {median(known):.0f} s, longest {known[-1]:.0f} s, {len(known)} runs")
    forgotten = sorted(run["forgotten"] for run in runs if run.get("forgotten") is not None)
    if forgotten:
        print(f"the old address given up: median {median(forgotten):.0f} s, longest {forgotten[-1]:.0f} s, {len(forgotten)} runs")


def compared(cells):
    """One row a network, three clients side by side."""
    rows = defaultdict(dict)
    for cell in cells:
        rows[network(cell)[0], cell["transport"], servers(cell), cell["server"]][cell["client"]] = cell
    print("| network | transport | servers | " + " | ".join(CLIENTS) + " |")
    print("|---|---|---|" + "---|" * len(CLIENTS))
    for (name, transport, who, program), clients in rows.items():
        texts = []
        for client in CLIENTS:
            cell = clients.get(client)
            if cell is None:
                texts.append("–")
                continue
            runs = cell["runs"]
            right = sum(run["right"] for run in runs)
            text = f"**{right}/{len(runs)}**" if right < len(runs) else f"{right}/{len(runs)}"
            wrong = [f"{number} {word}" for word, number in (
                ("false +", count(runs, "+")), ("false −", count(runs, "-")), ("none", silent(runs))) if number]
            first = median([run.get("first") for run in runs])
            parts = [text, *wrong]
            if first is not None:
                parts.append(f"{seconds(first, cell['silence'])} s")
            noticed = median([run.get("noticed") for run in runs])
            if noticed is not None:
                parts.append(f"noticed {noticed:.0f} s")
            parts.append(f"{median([run.get('probes') for run in runs]) or 0:.0f} p")
            parts.append(f"{(median([run.get('traffic') for run in runs]) or 0) / 1000:.0f} kB")
            texts.append(", ".join(parts))
        print(f"| {name} | {transport} | {who} {program} | {' | '.join(texts)} |")
    print()
    for client in CLIENTS:
        of = [cell for cell in cells if cell["client"] == client]
        runs = [run for cell in of for run in cell["runs"]]
        heard = [run.get("first") for cell in of if not cell["silence"] for run in cell["runs"]]
        silence = [run.get("first") for cell in of if cell["silence"] for run in cell["runs"]]
        print(
            f"| {client} | {len(runs)} | {sum(run['right'] for run in runs)} | {count(runs, '+')} | {count(runs, '-')} | {silent(runs)} "
            f"| {seconds(median(heard))} | {seconds(median(silence))} | {median([run.get('probes') for run in runs]):.0f} "
            f"| {median([run.get('dial_data') for run in runs]) / 1000:.0f} | {median([run.get('traffic') for run in runs]) / 1000:.0f} |"
        )


def silent(runs):
    """Runs that ended without a verdict on an address."""
    return sum(any(verdict[0] == "unknown" for verdict in run.get("verdicts", {}).values()) for run in runs)


if __name__ == "__main__":
    what, path = sys.argv[1:]
    {"matrix": matrix, "compared": compared}[what](json.load(open(path))["cells"])
