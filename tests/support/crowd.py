"""An emulated account with thousands of models of others, without making each."""

import sqlite3
from contextlib import closing


def crowd(state, model, count):
    """Copy a model so often, as `model-0000` and so on, into the emulator's state folder."""
    with closing(sqlite3.connect(state / "state.db")) as database, database:
        row = database.execute("SELECT * FROM resources WHERE collection = 'models' AND id = ?", (model,)).fetchone()
        copies = [[part.replace(model, f"model-{number:04}") for part in row] for number in range(count)]
        database.executemany("INSERT INTO resources VALUES (?, ?, ?, ?, ?)", copies)
