-- A state file as the release before its tenth migration left it, written by that release's own code.
BEGIN TRANSACTION;
CREATE TABLE beats (id INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE cards (
        channel TEXT NOT NULL,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        message_id TEXT NOT NULL,
        closed INTEGER NOT NULL,
        PRIMARY KEY (channel, run_id)
    ) WITHOUT ROWID;
CREATE TABLE cursors (channel TEXT PRIMARY KEY, event_id INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE deliveries (
        channel TEXT NOT NULL,
        event_id INTEGER NOT NULL REFERENCES events (id),
        state TEXT NOT NULL,
        message_id TEXT NOT NULL,
        reason TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (channel, event_id)
    ) WITHOUT ROWID;
CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        number INTEGER,
        kind TEXT NOT NULL,
        data TEXT NOT NULL
    );
INSERT INTO "events" VALUES(1,1773360120.0,1,NULL,'run_started','{}');
INSERT INTO "events" VALUES(2,1773360180.0,1,0,'decided','{}');
INSERT INTO "events" VALUES(3,1773360240.0,1,NULL,'run_state','{"state": "paused", "reason": "by the heartbeat: 0.3 GB free on the disk of /home/ann/.local/share/autoresearch: make room; the run then goes on by itself"}');
INSERT INTO "events" VALUES(4,1773360360.0,2,NULL,'run_started','{}');
INSERT INTO "events" VALUES(5,1773360420.0,2,0,'decided','{}');
INSERT INTO "events" VALUES(6,1773360480.0,2,NULL,'run_state','{"state": "pausing", "reason": "by the heartbeat: 0.3 GB free on the disk of /home/ann/my: make room: make room; the run then goes on by itself"}');
INSERT INTO "events" VALUES(7,1773360600.0,3,NULL,'run_started','{}');
INSERT INTO "events" VALUES(8,1773360660.0,3,0,'decided','{}');
INSERT INTO "events" VALUES(9,1773360720.0,3,NULL,'run_state','{"state": "paused", "reason": "by the heartbeat: the GPU is gone: run nvidia-smi and mend what it says; the run then goes on by itself"}');
INSERT INTO "events" VALUES(10,1773360840.0,4,NULL,'run_started','{}');
INSERT INTO "events" VALUES(11,1773360900.0,4,0,'decided','{}');
INSERT INTO "events" VALUES(12,1773360960.0,4,NULL,'run_state','{"state": "paused", "reason": "by the heartbeat: the GPU has room for 2.0 GB and a training takes 40.0 GB: end jupyter (pid 42); the run then goes on by itself"}');
INSERT INTO "events" VALUES(13,1773361080.0,5,NULL,'run_started','{}');
INSERT INTO "events" VALUES(14,1773361140.0,5,0,'decided','{}');
INSERT INTO "events" VALUES(15,1773361200.0,5,NULL,'run_state','{"state": "paused", "reason": "by the heartbeat: the state file cannot be written (no space left on device): mend the disk of the state directory; the run then goes on by itself"}');
INSERT INTO "events" VALUES(16,1773361320.0,6,NULL,'run_started','{}');
INSERT INTO "events" VALUES(17,1773361380.0,6,0,'decided','{}');
INSERT INTO "events" VALUES(18,1773361440.0,6,NULL,'run_state','{"state": "paused", "reason": "by the heartbeat: the GPU is gone: run nvidia-smi and mend what it says; the run then goes on by itself"}');
INSERT INTO "events" VALUES(19,1773361500.0,6,NULL,'run_state','{"state": "running", "reason": "by the heartbeat: what it waited for is there"}');
INSERT INTO "events" VALUES(20,1773361620.0,7,NULL,'run_started','{}');
INSERT INTO "events" VALUES(21,1773361680.0,7,0,'decided','{}');
INSERT INTO "events" VALUES(22,1773361740.0,7,NULL,'run_state','{"state": "paused", "reason": "by ann"}');
INSERT INTO "events" VALUES(23,1773361860.0,8,NULL,'run_started','{}');
INSERT INTO "events" VALUES(24,1773361920.0,8,0,'decided','{}');
INSERT INTO "events" VALUES(25,1773361980.0,8,NULL,'run_state','{"state": "paused", "reason": "by command"}');
INSERT INTO "events" VALUES(26,1773362100.0,9,NULL,'run_started','{}');
INSERT INTO "events" VALUES(27,1773362160.0,9,0,'decided','{}');
INSERT INTO "events" VALUES(28,1773362220.0,9,NULL,'run_state','{"state": "stopped", "reason": "by Bob the builder"}');
INSERT INTO "events" VALUES(29,1773362340.0,10,NULL,'run_started','{}');
INSERT INTO "events" VALUES(30,1773362400.0,10,0,'decided','{}');
INSERT INTO "events" VALUES(31,1773362460.0,10,NULL,'run_state','{"state": "done", "reason": "4 experiments made"}');
INSERT INTO "events" VALUES(32,1773362580.0,11,NULL,'run_started','{}');
INSERT INTO "events" VALUES(33,1773362640.0,11,0,'decided','{}');
INSERT INTO "events" VALUES(34,1773362760.0,12,NULL,'run_started','{}');
INSERT INTO "events" VALUES(35,1773362820.0,12,0,'decided','{}');
INSERT INTO "events" VALUES(36,1773363060.0,12,NULL,'noted','{"about": "LLM_BUDGET_USD", "state": "nearly spent: 1", "reason": "$0.85 of the $1.00 for models in this run are spent"}');
INSERT INTO "events" VALUES(37,1773363420.0,12,NULL,'needs_attention','{"about": "LLM_BUDGET_USD", "state": "spent: 1", "reason": "$1.00 of the $1.00 for models in this run are spent; /resume goes on with search, a larger LLM_BUDGET_USD with models"}');
INSERT INTO "events" VALUES(38,1773363480.0,12,NULL,'run_state','{"state": "paused", "reason": "by the budget: $1.00 of the $1.00 for models in this run are spent; /resume goes on with search, a larger LLM_BUDGET_USD with models"}');
INSERT INTO "events" VALUES(39,1773363600.0,13,NULL,'run_started','{}');
INSERT INTO "events" VALUES(40,1773363660.0,13,0,'decided','{}');
INSERT INTO "events" VALUES(41,1773363720.0,13,NULL,'run_state','{"state": "paused", "reason": "by another REPOSITORY"}');
INSERT INTO "events" VALUES(42,1773363780.0,13,NULL,'needs_attention','{"about": "another repository", "state": "/home/ann/other", "reason": "/resume goes on with it, /stop and /start_run begin another. Run strange is of /home/ann/nano, and REPOSITORY is /home/ann/other"}');
INSERT INTO "events" VALUES(43,1773363900.0,14,NULL,'run_started','{}');
INSERT INTO "events" VALUES(44,1773363960.0,14,0,'decided','{}');
INSERT INTO "events" VALUES(45,1773364020.0,14,NULL,'needs_attention','{"about": "anthropic:claude", "state": "out of reach until a person helps", "reason": "anthropic:claude is out of reach, the run goes on without it: The key is refused."}');
INSERT INTO "events" VALUES(46,1773364080.0,14,NULL,'noted','{"about": "openai:gpt", "state": "out of reach", "reason": "openai:gpt is out of reach, the run goes on without it: 503"}');
INSERT INTO "events" VALUES(47,1773364140.0,14,NULL,'noted','{"about": "google:gemini", "state": "out of reach", "reason": "google:gemini is out of reach, the run goes on without it: 503"}');
INSERT INTO "events" VALUES(48,1773364200.0,14,NULL,'noted','{"about": "google:gemini", "state": "in reach", "reason": "google:gemini is within reach again"}');
INSERT INTO "events" VALUES(49,1773364320.0,14,NULL,'noted','{"about": "the price of openai:gpt", "state": "unknown", "reason": "nobody knows the price of openai:gpt: its dollars cannot be counted or limited"}');
INSERT INTO "events" VALUES(50,1773364680.0,14,NULL,'noted','{"about": "LLM_BUDGET_USD", "state": "nearly spent: 1", "reason": "$0.85 of the $1.00 for models in this run are spent"}');
INSERT INTO "events" VALUES(51,1773364740.0,14,NULL,'noted','{"about": "being stuck", "state": "stuck since #5", "reason": "no gain in 15 experiments since #5: it looks further afield from now on"}');
INSERT INTO "events" VALUES(52,1773364800.0,14,NULL,'noted','{"reason": "idea #1 of bob is given up: it was trained"}');
INSERT INTO "events" VALUES(53,1773364920.0,15,NULL,'run_started','{}');
INSERT INTO "events" VALUES(54,1773364980.0,15,0,'decided','{}');
INSERT INTO "events" VALUES(55,1773365040.0,15,NULL,'needs_attention','{"reason": "4.0 GB free on the disk of /home/ann/.local/share/autoresearch: make room before the run has to pause", "halted": false}');
INSERT INTO "events" VALUES(56,1773365100.0,15,NULL,'needs_attention','{"reason": "3.1 GB free on the disk of /home/ann/.local/share/autoresearch: make room before the run has to pause", "halted": false}');
INSERT INTO "events" VALUES(57,1773365160.0,15,NULL,'needs_attention','{"reason": "its loop ended 4 times in a row, the last time with: disk on fire", "halted": true}');
INSERT INTO "events" VALUES(58,1773365220.0,15,NULL,'needs_attention','{"reason": "its proposer has had no idea for 167 min: why", "halted": false}');
INSERT INTO "events" VALUES(59,1773365280.0,15,NULL,'needs_attention','{"reason": "the baseline, the program as it is, crashed (mend and commit it, then /stop and /start_run): RuntimeError: no data"}');
INSERT INTO "events" VALUES(60,1773365340.0,15,NULL,'needs_attention','{"reason": "5 experiments crashed in a row, the last with: RuntimeError: no data"}');
INSERT INTO "events" VALUES(61,1773365400.0,15,NULL,'needs_attention','{"reason": "10 experiments crashed in a row, the last with: RuntimeError: no data"}');
INSERT INTO "events" VALUES(62,1773365460.0,15,NULL,'needs_attention','{"reason": "experiment #7 vanished 3 times: its training vanished: the machine or its supervisor died"}');
INSERT INTO "events" VALUES(63,1773365520.0,15,NULL,'noted','{"reason": "rests 1 min after 5 crashes in a row", "halted": true}');
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
        reason TEXT NOT NULL, idea INTEGER REFERENCES ideas (id), expected TEXT NOT NULL DEFAULT '', family TEXT, repairs INTEGER, cost TEXT, program TEXT NOT NULL DEFAULT '', waited REAL NOT NULL DEFAULT 0,
        PRIMARY KEY (run_id, number)
    ) WITHOUT ROWID;
INSERT INTO "experiments" VALUES(1,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(2,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(3,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(4,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(5,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(6,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(7,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(8,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(9,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(10,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(11,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(12,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(13,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(14,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
INSERT INTO "experiments" VALUES(15,0,'decided','EMBEDDING_LR 0.6 → 0.8','why not','search','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"EMBEDDING_LR": 0.8, "WINDOW_PATTERN": "SSSL", "BETAS": [0.8, 0.95]}',0,0,0,NULL,NULL,0,0.0,NULL,NULL,NULL,'exited',NULL,'{"val_bpb": 1.25, "peak_vram_mb": 1024.0}','',1.25,NULL,'keep','',NULL,'',NULL,NULL,NULL,'',0.0);
CREATE TABLE ideas (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER NOT NULL REFERENCES runs (id),
        text TEXT NOT NULL,
        author TEXT NOT NULL,
        channel TEXT NOT NULL,
        message_id TEXT NOT NULL
    , given_up TEXT NOT NULL DEFAULT '');
INSERT INTO "ideas" VALUES(1,14,'wider','bob','','','it was trained');
CREATE TABLE preferences (channel TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE requests (key TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
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
INSERT INTO "runs" VALUES(1,'disk','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'paused','by the heartbeat: 0.3 GB free on the disk of /home/ann/.local/share/autoresearch: make room; the run then goes on by itself',1773360060.0,'');
INSERT INTO "runs" VALUES(2,'disk-pausing','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'pausing','by the heartbeat: 0.3 GB free on the disk of /home/ann/my: make room: make room; the run then goes on by itself',1773360300.0,'');
INSERT INTO "runs" VALUES(3,'gpu-gone','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'paused','by the heartbeat: the GPU is gone: run nvidia-smi and mend what it says; the run then goes on by itself',1773360540.0,'');
INSERT INTO "runs" VALUES(4,'gpu-full','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'paused','by the heartbeat: the GPU has room for 2.0 GB and a training takes 40.0 GB: end jupyter (pid 42); the run then goes on by itself',1773360780.0,'');
INSERT INTO "runs" VALUES(5,'unwritable','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'paused','by the heartbeat: the state file cannot be written (no space left on device): mend the disk of the state directory; the run then goes on by itself',1773361020.0,'');
INSERT INTO "runs" VALUES(6,'lifted','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'running','by the heartbeat: what it waited for is there',1773361260.0,'');
INSERT INTO "runs" VALUES(7,'person','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'paused','by ann',1773361560.0,'');
INSERT INTO "runs" VALUES(8,'command','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'paused','by command',1773361800.0,'');
INSERT INTO "runs" VALUES(9,'stopped','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'stopped','by Bob the builder',1773362040.0,'');
INSERT INTO "runs" VALUES(10,'done','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'done','4 experiments made',1773362280.0,'');
INSERT INTO "runs" VALUES(11,'begun','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'running','',1773362520.0,'');
INSERT INTO "runs" VALUES(12,'budget','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'paused','by the budget: $1.00 of the $1.00 for models in this run are spent; /resume goes on with search, a larger LLM_BUDGET_USD with models',1773362700.0,'');
INSERT INTO "runs" VALUES(13,'strange','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'paused','by another REPOSITORY',1773363540.0,'');
INSERT INTO "runs" VALUES(14,'models','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'running','',1773363840.0,'');
INSERT INTO "runs" VALUES(15,'calls','/home/ann/nano','main','cccccccccccccccccccccccccccccccccccccccc','val_bpb','minimize',300.0,'running','',1773364860.0,'');
CREATE TABLE sessions (
        id INTEGER PRIMARY KEY,
        boot TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started_at REAL NOT NULL,
        seen_at REAL NOT NULL,
        ended_at REAL
    );
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
INSERT INTO "spends" VALUES(1,1773362880.0,12,'anthropic:claude',1000,0,100,0.85);
INSERT INTO "spends" VALUES(2,1773363120.0,12,'anthropic:claude',1000,0,100,0.15);
INSERT INTO "spends" VALUES(3,1773364260.0,14,'openai:gpt',1000,0,100,NULL);
INSERT INTO "spends" VALUES(4,1773364500.0,14,'openai:gpt',1000,0,100,0.85);
CREATE INDEX experiments_by_status ON experiments (run_id, status, number);
CREATE INDEX deliveries_to_come ON deliveries (channel, event_id) WHERE state IN ('held', 'follows');
CREATE INDEX deliveries_refused ON deliveries (at) WHERE state = 'refused';
CREATE INDEX spends_by_run ON spends (run_id, at);
CREATE INDEX experiments_by_idea ON experiments (run_id, idea) WHERE idea IS NOT NULL;
CREATE INDEX experiments_by_wait ON experiments (run_id, waited);
CREATE INDEX events_by_kind ON events (run_id, kind);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',63);
INSERT INTO "sqlite_sequence" VALUES('ideas',1);
COMMIT;
PRAGMA user_version = 9;
