"""Counts a document up, a step at a time; what a step made is committed, with a full sync, before the next one begins."""

import json
import sqlite3
import sys

steps = int(sys.argv[1])
journal = sqlite3.connect("steps.db", isolation_level=None)
journal.execute("PRAGMA journal_mode = wal")
journal.execute("PRAGMA synchronous = full")
journal.execute("CREATE TABLE IF NOT EXISTS step (run INTEGER, seq INTEGER, output TEXT, PRIMARY KEY (run, seq))")
run = journal.execute("SELECT coalesce(max(run), 0) + 1 FROM step").fetchone()[0]
with open("0.json") as file:
    output = file.read()
for step in range(steps):
    document = json.loads(output)
    document["n"] += 1
    output = json.dumps(document)
    journal.execute("INSERT INTO step VALUES (?, ?, ?)", (run, step, output))
print(output)
