"""Processes that answer with one JSON object a line; those of the line protocol take their options as one argument."""

import json
import subprocess
import threading


class Peer:
    """A process that answers with one JSON object a line."""

    def __init__(self, command, namespace, arguments, changed):
        self.events = []
        self.ended = False
        self.changed = changed
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors = []
        for stream, sink in ((self.process.stdout, self._event), (self.process.stderr, self.errors.append)):
            threading.Thread(target=self._read, args=(stream, sink), daemon=True).start()

    def _read(self, stream, sink):
        for line in stream:
            sink(line.rstrip("\n"))
        if stream is self.process.stdout:
            with self.changed:
                self.ended = True
                self.changed.notify_all()

    def _event(self, line):
        try:
            event = json.loads(line)
        except ValueError:
            event = {"event": "noise", "text": line}
        # The tools print nothing but their report.
        event.setdefault("event", "report")
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def all(self, event, after=None, **fields):
        """The events with these fields, behind the last one that is called `after`. A tuple means: any of these values."""

        def fits(value, wanted):
            return value in wanted if isinstance(wanted, tuple) else value == wanted

        events = list(self.events)
        start = max((i for i, e in enumerate(events) if e.get("event") == after), default=0)
        return [
            e
            for e in events[start:]
            if e.get("event") == event and all(fits(e.get(name), wanted) for name, wanted in fields.items())
        ]

    def any(self, event, **fields):
        return bool(self.all(event, **fields))

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
