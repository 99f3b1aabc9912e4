"""The tables of the state file, as each release added to them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

MIGRATIONS = (
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        tag TEXT NOT NULL UNIQUE,
        repository TEXT NOT NULL,
        base_branch TEXT NOT NULL,
        base_commit TEXT NOT NULL,
        metric TEXT NOT NULL,
        goal TEXT NOT NULL,
        time_budget REAL NOT NULL,
        state TEXT NOT NULL,
        state_reason TEXT NOT NULL,
        created_at REAL NOT NULL,
        renamed_from TEXT NOT NULL
    );
    CREATE TABLE experiments (
        run_id INTEGER NOT NULL REFERENCES runs (id),
        number INTEGER NOT NULL,
        stage TEXT NOT NULL,
        description TEXT NOT NULL,
        rationale TEXT NOT NULL,
        proposer TEXT NOT NULL,
        parent TEXT NOT NULL,
        "commit" TEXT NOT NULL,
        constants TEXT NOT NULL,
        lines_added INTEGER NOT NULL,
        lines_removed INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        supervisor_pid INTEGER,
        supervisor_started REAL,
        skip_requested INTEGER NOT NULL,
        proposed_at REAL NOT NULL,
        started_at REAL,
        ended_at REAL,
        decided_at REAL,
        ending TEXT,
        exit_code INTEGER,
        numbers TEXT NOT NULL,
        error TEXT NOT NULL,
        value REAL,
        best_before REAL,
        status TEXT,
        reason TEXT NOT NULL,
        PRIMARY KEY (run_id, number)
    ) WITHOUT ROWID;
    CREATE INDEX experiments_by_status ON experiments (run_id, status, number);
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        number INTEGER,
        kind TEXT NOT NULL,
        data TEXT NOT NULL
    );
    CREATE TABLE cursors (channel TEXT PRIMARY KEY, event_id INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE beats (at REAL PRIMARY KEY) WITHOUT ROWID;
    """,
    """
    CREATE TABLE deliveries (
        channel TEXT NOT NULL,
        event_id INTEGER NOT NULL REFERENCES events (id),
        state TEXT NOT NULL,
        message_id TEXT NOT NULL,
        reason TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (channel, event_id)
    ) WITHOUT ROWID;
    CREATE INDEX deliveries_to_come ON deliveries (channel, event_id) WHERE state IN ('held', 'follows');
    CREATE INDEX deliveries_refused ON deliveries (at) WHERE state = 'refused';
    CREATE TABLE cards (
        channel TEXT NOT NULL,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        message_id TEXT NOT NULL,
        closed INTEGER NOT NULL,
        PRIMARY KEY (channel, run_id)
    ) WITHOUT ROWID;
    CREATE TABLE preferences (channel TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE requests (key TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE ideas (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        text TEXT NOT NULL,
        author TEXT NOT NULL,
        channel TEXT NOT NULL,
        message_id TEXT NOT NULL
    );
    ALTER TABLE experiments ADD COLUMN idea INTEGER REFERENCES ideas (id);
    """,
    """
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY,
        boot TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started_at REAL NOT NULL,
        seen_at REAL NOT NULL,
        ended_at REAL
    );
    """,
    """
    ALTER TABLE experiments ADD COLUMN expected TEXT NOT NULL DEFAULT '';
    ALTER TABLE experiments ADD COLUMN family TEXT;
    ALTER TABLE experiments ADD COLUMN repairs INTEGER;
    ALTER TABLE experiments ADD COLUMN cost TEXT;
    ALTER TABLE experiments ADD COLUMN program TEXT NOT NULL DEFAULT '';
    ALTER TABLE experiments ADD COLUMN waited REAL NOT NULL DEFAULT 0;
    CREATE TABLE spends (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        proposer TEXT NOT NULL,
        input_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        dollars REAL
    );
    CREATE INDEX spends_by_run ON spends (run_id, at);
    """,
    """
    ALTER TABLE ideas ADD COLUMN given_up TEXT NOT NULL DEFAULT '';
    """,
    """
    CREATE INDEX experiments_by_idea ON experiments (run_id, idea) WHERE idea IS NOT NULL;
    CREATE INDEX experiments_by_wait ON experiments (run_id, waited);
    """,
    """
    CREATE INDEX events_by_kind ON events (run_id, kind);
    """,
    """
    ALTER TABLE beats RENAME TO beats_by_time;
    CREATE TABLE beats (id INTEGER PRIMARY KEY, at REAL NOT NULL);
    INSERT INTO beats (at) SELECT at FROM beats_by_time ORDER BY at;
    DROP TABLE beats_by_time;
    """,
    # Until here who changed a state and what people were told were known by their sentences. What was made of
    # facts is read back into them, once. A sentence stays as a fact, for people only.
    """
    ALTER TABLE runs ADD COLUMN state_by TEXT;
    ALTER TABLE runs ADD COLUMN state_name TEXT NOT NULL DEFAULT '';
    ALTER TABLE runs ADD COLUMN state_cause TEXT;
    ALTER TABLE runs ADD COLUMN state_facts TEXT NOT NULL DEFAULT '{}';
    UPDATE runs SET
        state_by = CASE
            WHEN state_reason GLOB 'by the heartbeat: *' THEN 'heartbeat'
            WHEN state_reason GLOB 'by the budget: *' THEN 'budget'
            WHEN state_reason = 'by another REPOSITORY' THEN 'startup'
            WHEN state_reason GLOB 'by *' THEN 'person'
            ELSE 'loop'
        END,
        state_cause = CASE
            WHEN state_reason GLOB 'by the heartbeat: * GB free on the disk of *: make room; *' THEN 'disk'
            WHEN state_reason GLOB 'by the heartbeat: the state file *' THEN 'state_file'
            WHEN state_reason GLOB 'by the heartbeat: the GPU is gone: *' THEN 'gpu_gone'
            WHEN state_reason GLOB 'by the heartbeat: the GPU has room *' THEN 'gpu_full'
            WHEN state_reason GLOB 'by the budget: *' THEN 'budget'
            WHEN state_reason = 'by another REPOSITORY' THEN 'repository'
        END,
        state_facts = json_object('text', state_reason)
    WHERE state_reason != '';
    UPDATE runs SET
        state_name = CASE state_reason WHEN 'by command' THEN '' ELSE substr(state_reason, 4) END,
        state_facts = '{}'
    WHERE state_by = 'person';
    UPDATE runs SET state_facts = '{}' WHERE state_by = 'startup';
    UPDATE runs SET state_facts = json_set(state_facts, '$.folder', substr(
        state_reason,
        instr(state_reason, ' on the disk of ') + 16,
        length(state_reason) - instr(state_reason, ' on the disk of ') - 15
            - length(': make room; the run then goes on by itself')
    )) WHERE state_cause = 'disk';
    ALTER TABLE runs DROP COLUMN state_reason;

    UPDATE events SET data = json_remove(CASE
        WHEN about = 'another repository' THEN json_set(data, '$.cause', 'repository', '$.key', '')
        WHEN about = 'being stuck' THEN json_set(data, '$.cause', 'stuck', '$.key', '',
            '$.state', replace(replace(state, 'stuck since #', ''), 'stuck', ''))
        WHEN about GLOB 'the price of *' THEN json_set(data, '$.cause', 'price',
            '$.key', substr(about, length('the price of ') + 1))
        WHEN about IN ('LLM_BUDGET_USD', 'LLM_BUDGET_USD_A_DAY') THEN json_set(data, '$.cause', 'budget',
            '$.key', about,
            '$.state', replace(replace(replace(state, 'nearly spent:', 'nearly_spent'), 'spent:', 'spent'),
                ' on ', ' '))
        ELSE json_set(data, '$.cause', 'proposer', '$.key', about, '$.state', CASE state
            WHEN 'out of reach' THEN 'away'
            WHEN 'out of reach until a person helps' THEN 'lost'
            ELSE 'back'
        END)
    END, '$.about')
    FROM (
        SELECT id AS told, json_extract(data, '$.about') AS about, json_extract(data, '$.state') AS state
        FROM events WHERE kind IN ('needs_attention', 'noted')
    ) WHERE id = told AND about IS NOT NULL;
    UPDATE events SET data = json_set(data, '$.cause', cause, '$.key', CASE cause
        WHEN 'disk_short' THEN substr(
            reason,
            instr(reason, ' on the disk of ') + 16,
            length(reason) - instr(reason, ' on the disk of ') - 15
                - length(': make room before the run has to pause')
        )
        ELSE ''
    END)
    FROM (
        SELECT id AS told, reason, CASE
            WHEN reason GLOB 'its loop ended *' THEN 'loop'
            WHEN reason GLOB 'its proposer has had no idea *' THEN 'no_proposal'
            WHEN reason GLOB '* GB free on the disk of *: make room before *' THEN 'disk_short'
            WHEN reason GLOB 'the baseline, the program as it is, crashed *' THEN 'baseline'
            WHEN reason GLOB '* experiments crashed in a row, *' THEN 'crashes'
            WHEN reason GLOB 'experiment #* vanished * times: *' THEN 'vanished'
        END AS cause
        FROM (
            SELECT id, json_extract(data, '$.reason') AS reason FROM events
            WHERE kind = 'needs_attention' AND json_extract(data, '$.cause') IS NULL
        )
    ) WHERE id = told AND cause IS NOT NULL;
    """,
    """
    DELETE FROM beats WHERE id < (SELECT max(id) FROM beats);
    UPDATE beats SET id = 1;
    """,
    # Experiments and their trainings become two tables. `experiments.attempt` is the training that decides,
    # or the last one so far; `experiment_rows` shows both as the one row that they were.
    """
    DROP INDEX experiments_by_status;
    DROP INDEX experiments_by_idea;
    DROP INDEX experiments_by_wait;
    ALTER TABLE experiments RENAME TO experiments_before;
    CREATE TABLE experiments (
        run_id INTEGER NOT NULL REFERENCES runs (id),
        number INTEGER NOT NULL,
        lane INTEGER NOT NULL DEFAULT 0,
        stage TEXT NOT NULL,
        description TEXT NOT NULL,
        rationale TEXT NOT NULL,
        proposer TEXT NOT NULL,
        parent TEXT NOT NULL,
        "commit" TEXT NOT NULL,
        constants TEXT NOT NULL,
        lines_added INTEGER NOT NULL,
        lines_removed INTEGER NOT NULL,
        attempt INTEGER,
        skip_requested INTEGER NOT NULL,
        proposed_at REAL NOT NULL,
        decided_at REAL,
        value REAL,
        best_before REAL,
        status TEXT,
        reason TEXT NOT NULL,
        idea INTEGER REFERENCES ideas (id),
        expected TEXT NOT NULL,
        family TEXT,
        repairs INTEGER,
        cost TEXT,
        program TEXT NOT NULL,
        waited REAL NOT NULL,
        PRIMARY KEY (run_id, number)
    ) WITHOUT ROWID;
    INSERT INTO experiments SELECT
        run_id, number, 0, stage, description, rationale, proposer, parent, "commit", constants, lines_added,
        lines_removed, CASE WHEN attempt OR ending IS NOT NULL OR numbers != '{}' THEN attempt END,
        skip_requested, proposed_at, decided_at, value, best_before, status, reason, idea, expected, family,
        repairs, cost, program, waited
    FROM experiments_before;
    CREATE TABLE trainings (
        run_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        k INTEGER NOT NULL,
        purpose TEXT NOT NULL,
        lane INTEGER NOT NULL,
        device TEXT NOT NULL,
        supervisor_pid INTEGER,
        supervisor_started REAL,
        started_at REAL,
        ended_at REAL,
        ending TEXT,
        exit_code INTEGER,
        numbers TEXT NOT NULL,
        error TEXT NOT NULL,
        PRIMARY KEY (run_id, number, k),
        FOREIGN KEY (run_id, number) REFERENCES experiments (run_id, number)
    ) WITHOUT ROWID;
    INSERT INTO trainings SELECT
        run_id, number, attempt, 'verdict', 0, '', supervisor_pid, supervisor_started, started_at, ended_at,
        coalesce(ending, CASE WHEN stage != 'training' THEN 'interrupted' END), exit_code, numbers, error
    FROM experiments_before WHERE attempt OR ending IS NOT NULL OR numbers != '{}';
    DROP TABLE experiments_before;
    -- Of trainings that were run again only events tell: they began with one and ended with another.
    INSERT OR IGNORE INTO trainings
    WITH told AS (
        SELECT run_id, number, kind, at, data, sum(kind = 'training') OVER so_far AS k
        FROM events WHERE kind IN ('training', 'interrupted') AND number IS NOT NULL
        WINDOW so_far AS (PARTITION BY run_id, number ORDER BY id)
    )
    SELECT ended.run_id, ended.number, ended.k, 'verdict', 0, '', NULL, NULL, begun.at, ended.at,
        CASE WHEN json_extract(ended.data, '$.vanished') THEN 'vanished' ELSE 'interrupted' END,
        NULL, '{}', ''
    FROM told AS ended JOIN told AS begun USING (run_id, number, k)
    WHERE ended.kind = 'interrupted' AND begun.kind = 'training';
    UPDATE trainings SET ended_at = (
        SELECT max(at) FROM events WHERE events.run_id = trainings.run_id
        AND events.number = trainings.number AND kind = 'interrupted'
    ) WHERE ended_at IS NULL AND ending = 'interrupted';
    CREATE UNIQUE INDEX experiments_under_way ON experiments (run_id, lane) WHERE status IS NULL;
    CREATE UNIQUE INDEX trainings_under_way ON trainings (run_id, lane) WHERE ending IS NULL;
    CREATE INDEX experiments_by_status ON experiments (run_id, status, number);
    CREATE INDEX experiments_by_idea ON experiments (run_id, idea) WHERE idea IS NOT NULL;
    CREATE INDEX experiments_by_wait ON experiments (run_id, waited);
    CREATE VIEW experiment_rows AS SELECT
        experiments.*, purpose, device, supervisor_pid, supervisor_started, started_at, ended_at, ending,
        exit_code, coalesce(numbers, '{}') AS numbers, coalesce(error, '') AS error
    FROM experiments LEFT JOIN trainings
    ON trainings.run_id = experiments.run_id AND trainings.number = experiments.number AND k = attempt;
    """,
    """
    ALTER TABLE runs ADD COLUMN moves_head_from TEXT NOT NULL DEFAULT '';
    CREATE TABLE retries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        number INTEGER NOT NULL,
        given_up TEXT NOT NULL
    );
    ALTER TABLE experiments ADD COLUMN findings TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE experiments ADD COLUMN retry INTEGER REFERENCES retries (id);
    ALTER TABLE experiments ADD COLUMN without INTEGER;
    ALTER TABLE experiments ADD COLUMN doubts TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE experiments ADD COLUMN invalidated TEXT;
    ALTER TABLE ideas ADD COLUMN removes TEXT NOT NULL DEFAULT '[]';
    CREATE INDEX experiments_by_retry ON experiments (retry) WHERE retry IS NOT NULL;
    CREATE TABLE certifications (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        pairs INTEGER NOT NULL,
        asked_at REAL NOT NULL,
        until REAL,
        asked_by TEXT NOT NULL,
        answered_in TEXT NOT NULL,
        head INTEGER,
        baseline INTEGER,
        started_at REAL,
        ended_at REAL,
        gain REAL,
        low REAL,
        high REAL,
        repeats INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX certifications_open ON certifications (run_id) WHERE ended_at IS NULL;
    CREATE TABLE prunes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        asked_at REAL NOT NULL,
        until REAL,
        asked_by TEXT NOT NULL,
        answered_in TEXT NOT NULL,
        head INTEGER,
        keeps TEXT NOT NULL,
        blocked TEXT NOT NULL,
        ended_at REAL
    );
    CREATE UNIQUE INDEX prunes_open ON prunes (run_id) WHERE ended_at IS NULL;
    CREATE TABLE repeats (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        why TEXT NOT NULL,
        asked_at REAL NOT NULL,
        seed INTEGER,
        asked_by TEXT NOT NULL,
        answered_in TEXT NOT NULL,
        certification INTEGER REFERENCES certifications (id),
        k INTEGER,
        given_up TEXT NOT NULL,
        FOREIGN KEY (run_id, number) REFERENCES experiments (run_id, number)
    );
    CREATE INDEX repeats_waiting ON repeats (run_id, id) WHERE k IS NULL AND given_up = '';
    CREATE INDEX repeats_by_training ON repeats (run_id, number, k);
    CREATE TABLE evaluations (
        run_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        k INTEGER NOT NULL,
        at REAL NOT NULL,
        belief TEXT NOT NULL,
        reason TEXT NOT NULL,
        numbers TEXT NOT NULL,
        PRIMARY KEY (run_id, number, k),
        FOREIGN KEY (run_id, number) REFERENCES experiments (run_id, number)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE cursors ADD COLUMN trouble TEXT NOT NULL DEFAULT '';
    ALTER TABLE cursors ADD COLUMN trouble_since REAL;
    """,
    """
    CREATE TABLE wishes (
        run_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        wish TEXT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (run_id, number),
        FOREIGN KEY (run_id, number) REFERENCES experiments (run_id, number)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE runs ADD COLUMN lanes TEXT NOT NULL DEFAULT '[]';
    CREATE TABLE lanes (
        run_id INTEGER NOT NULL REFERENCES runs (id),
        lane INTEGER NOT NULL,
        device TEXT NOT NULL,
        model TEXT NOT NULL,
        cause TEXT,
        closed TEXT NOT NULL,
        PRIMARY KEY (run_id, lane)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE trainings ADD COLUMN cpu_seconds REAL;
    DROP VIEW experiment_rows;
    CREATE VIEW experiment_rows AS SELECT
        experiments.*, purpose, device, supervisor_pid, supervisor_started, started_at, ended_at, ending,
        exit_code, coalesce(numbers, '{}') AS numbers, coalesce(error, '') AS error, cpu_seconds
    FROM experiments LEFT JOIN trainings
    ON trainings.run_id = experiments.run_id AND trainings.number = experiments.number AND k = attempt;
    """,
)
"""Applied in order, each once; `PRAGMA user_version` counts them. Never edit one that was released."""


def statements(script: str) -> Iterator[str]:
    """Split a migration: `executescript` would commit the transaction that it is called in."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
